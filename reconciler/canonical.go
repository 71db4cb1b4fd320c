package reconciler

import (
	"encoding/json"
)

// canonical is a plan in the one form that depends on nothing but what is
// planned: no UIDs, no versions, no times.
type canonical struct {
	Summary   string             `json:"summary"`
	Hash      string             `json:"hash"`
	Changes   []canonicalChange  `json:"changes"`
	Moves     []canonicalMove    `json:"moves"`
	Unchanged int                `json:"unchanged"`
	Waiting   []string           `json:"waiting"`
	Problems  []canonicalProblem `json:"problems"`
	Holds     []Hold             `json:"holds"`
}

type canonicalChange struct {
	Action    Action           `json:"action"`
	Object    string           `json:"object"`
	Source    string           `json:"source"`
	From      string           `json:"from,omitempty"`
	Place     string           `json:"place"`
	Drift     bool             `json:"drift,omitempty"`
	Protected bool             `json:"protected,omitempty"`
	Fields    []canonicalField `json:"fields,omitempty"`
}

type canonicalField struct {
	Path  string `json:"path"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	Place string `json:"place"`
	Exact bool   `json:"exact,omitempty"`
	Drift bool   `json:"drift,omitempty"`
}

type canonicalMove struct {
	Object string `json:"object"`
	Source string `json:"source"`
	From   string `json:"from"`
	To     string `json:"to"`
}

type canonicalProblem struct {
	Object  string `json:"object"`
	Place   string `json:"place"`
	Message string `json:"message"`
}

// MarshalJSON writes the plan in a canonical form: plans are equal if these
// bytes are, whether they were made against a cluster, an export of it, or the
// sets that were applied to it.
func (p *Plan) MarshalJSON() ([]byte, error) {
	out := canonical{
		Summary: p.Summary(), Hash: p.Hash(), Unchanged: p.Unchanged, Holds: append([]Hold{}, p.Holds...),
		Changes: []canonicalChange{}, Moves: []canonicalMove{}, Waiting: []string{}, Problems: []canonicalProblem{},
	}
	for _, c := range p.Changes {
		out.Changes = append(out.Changes, c.canonical())
	}
	for _, m := range p.Moves {
		out.Moves = append(out.Moves, canonicalMove{m.Key.String(), m.Source, m.From.String(), m.To.String()})
	}
	for _, key := range p.Waiting {
		out.Waiting = append(out.Waiting, key.String())
	}
	for _, problem := range p.Problems {
		out.Problems = append(out.Problems, canonicalProblem{problem.Key.String(), problem.Place.String(), problem.Message})
	}
	return json.Marshal(out)
}

func (c Change) canonical() canonicalChange {
	out := canonicalChange{
		Action: c.Action, Object: c.Key.String(), Source: c.Source, From: c.From, Place: c.Place.String(), Drift: c.Drift, Protected: c.Protected,
	}
	for _, f := range c.Fields {
		out.Fields = append(out.Fields, canonicalField{f.Path, f.Old, f.New, f.Place.String(), f.Exact, f.Drift})
	}
	return out
}
