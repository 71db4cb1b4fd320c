package report

import (
	"encoding/json"
	"io"

	"github.com/evenkeel/evenkeel/reconciler"
)

// jsonVersion is of the lines' form. Fields and types of lines are added
// without a new version; none is removed or given another meaning. docs/ci.md
// describes them.
const jsonVersion = 1

type jsonHead struct {
	V    int    `json:"v"`
	Type string `json:"type"`
}

type jsonPlace struct {
	Source   string `json:"source,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Document int    `json:"document,omitempty"`
}

type jsonObject struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

type jsonSource struct {
	jsonHead
	Name     string `json:"name"`
	Location string `json:"location"`
	Revision string `json:"revision"`
	Objects  int    `json:"objects"`
}

type jsonFinding struct {
	jsonHead
	Severity string `json:"severity"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	jsonPlace
	Object     string `json:"object,omitempty"`
	Excerpt    string `json:"excerpt,omitempty"`
	Width      int    `json:"width,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

type jsonChange struct {
	jsonHead
	Action string `json:"action"`
	jsonObject
	jsonPlace
	From   string      `json:"from,omitempty"`
	Drift  bool        `json:"drift,omitempty"`
	Fields []jsonField `json:"fields,omitempty"`
}

type jsonField struct {
	Path  string `json:"path"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	File  string `json:"file,omitempty"` // that sets it
	Line  int    `json:"line,omitempty"`
	Drift bool   `json:"drift,omitempty"`
}

type jsonMove struct {
	jsonHead
	jsonObject
	From jsonPlace `json:"from"`
	To   jsonPlace `json:"to"`
}

type jsonHold struct {
	jsonHead
	Source  string   `json:"source"`
	Hash    string   `json:"hash"`
	Reasons []string `json:"reasons"`
}

type jsonProblem struct {
	jsonHead
	Message string `json:"message"`
	jsonObject
	jsonPlace
}

type jsonWait struct {
	jsonHead
	jsonObject
}

type jsonPods struct {
	jsonHead
	New       int         `json:"new"`
	Restarted int         `json:"restarted"`
	Replaced  int         `json:"replaced"`
	Moved     int         `json:"moved"`
	Deleted   int         `json:"deleted"`
	Scheduled bool        `json:"scheduled"` // nodes are known, and it was tried
	Unfit     []jsonUnfit `json:"unfit,omitempty"`
	Notes     []string    `json:"notes,omitempty"`
}

type jsonUnfit struct {
	Object string `json:"object"`
	Pods   int    `json:"pods"`
	Reason string `json:"reason"`
}

type jsonSummary struct {
	jsonHead
	Text      string `json:"text"`
	Errors    int    `json:"errors"`
	Warnings  int    `json:"warnings"`
	Plan      bool   `json:"plan"` // the counts below are known
	Add       int    `json:"add"`
	Change    int    `json:"change"`
	Delete    int    `json:"delete"`
	Unchanged int    `json:"unchanged"`
	Moved     int    `json:"moved"`
	Held      bool   `json:"held"`
	Hash      string `json:"hash,omitempty"`
	Exit      int    `json:"exit"`
}

// writeJSON is for a program: one JSON object in each line.
func writeJSON(w io.Writer, v view) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for _, line := range v.jsonLines() {
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func (v view) jsonLines() []any {
	var out []any
	for _, s := range v.report.Sources {
		out = append(out, jsonSource{jsonLine("source"), s.Name, clean(s.Location), s.Revision, s.Objects})
	}
	for _, d := range v.report.Findings {
		out = append(out, jsonFinding{
			jsonHead: jsonLine("finding"), Severity: d.Severity.String(), Code: d.Code, Message: d.Message,
			jsonPlace: jsonPlace(d.Position), Object: d.Object, Excerpt: d.Excerpt, Width: d.Width, Suggestion: d.Suggestion,
		})
	}
	for _, r := range v.rows {
		place := jsonPlace(r.place)
		place.Source = r.source
		change := jsonChange{
			jsonHead: jsonLine("change"), Action: string(r.action), jsonObject: jsonObject{r.kind, r.key.Namespace, r.key.Name},
			jsonPlace: place, From: r.from, Drift: r.drift,
		}
		for _, f := range r.fields {
			field := jsonField{Path: f.Path, Old: f.Old, New: f.New, Drift: f.Drift}
			if f.Exact {
				field.File, field.Line = f.Place.File, f.Place.Line
			}
			change.Fields = append(change.Fields, field)
		}
		out = append(out, change)
	}
	for _, p := range v.blocked {
		kind, _ := name(p.key)
		out = append(out, jsonProblem{jsonLine("problem"), p.message, jsonObject{kind, p.key.Namespace, p.key.Name}, jsonPlace(p.place)})
	}
	if v.report.Plan != nil {
		out = append(out, planLines(v.report.Plan)...)
	}
	return append(out, v.jsonSummary())
}

// planLines are the lines of a plan that change nothing.
func planLines(p *reconciler.Plan) []any {
	var out []any
	for _, m := range p.Moves {
		kind, _ := name(m.Key)
		out = append(out, jsonMove{jsonLine("move"), jsonObject{kind, m.Key.Namespace, m.Key.Name}, jsonPlace(m.From), jsonPlace(m.To)})
	}
	for _, key := range p.Waiting {
		kind, _ := name(key)
		out = append(out, jsonWait{jsonLine("wait"), jsonObject{kind, key.Namespace, key.Name}})
	}
	if e := p.Effects; e != nil {
		line := jsonPods{
			jsonHead: jsonLine("pods"), New: e.New, Restarted: e.Restarted, Replaced: e.Replaced, Moved: e.Moved, Deleted: e.Deleted,
			Scheduled: e.Scheduled, Notes: e.Notes,
		}
		for _, u := range e.Unfit {
			line.Unfit = append(line.Unfit, jsonUnfit(u))
		}
		out = append(out, line)
	}
	for _, h := range p.Holds {
		out = append(out, jsonHold{jsonLine("hold"), h.Source, h.Hash, h.Reasons})
	}
	return out
}

func (v view) jsonSummary() jsonSummary {
	s := jsonSummary{jsonHead: jsonLine("summary"), Text: v.verdict(), Hash: v.hash, Exit: v.report.ExitCode}
	s.Errors, s.Warnings = v.report.Findings.Count()
	s.Errors += len(v.blocked)
	if p := v.report.Plan; p != nil {
		s.Plan = true
		s.Add, s.Change, s.Delete = p.Count(reconciler.Create), p.Count(reconciler.Update, reconciler.Resize, reconciler.Replace), p.Count(reconciler.Delete)
		s.Unchanged, s.Moved, s.Held = p.Unchanged, p.Moved, len(p.Holds) > 0
	}
	return s
}

func jsonLine(typ string) jsonHead { return jsonHead{V: jsonVersion, Type: typ} }
