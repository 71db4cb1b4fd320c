package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Candidate is a node as it looks for one pod.
type Candidate struct {
	Node     string   `json:"node"`
	Refusals []string `json:"refusals,omitempty"` // why the pod cannot be there; none if it can
	Score    int64    `json:"score,omitempty"`    // the higher the better
	Same     int      `json:"same,omitempty"`     // pods of the same controller that are there
}

// Candidates is what Schedule chooses from for a pod that has no room in the
// state: the nodes where it can be, the best first, and then the others by
// name. It changes nothing.
func (s *State) Candidates(pod *corev1.Pod) []Candidate {
	d := demandOf(pod)
	d.needs, d.around = s.needsOf(pod), s.surroundingsOf(&d)
	same := s.spread[d.controller]
	var out, refused []Candidate
	var fitting []*node
	for _, n := range s.known() {
		c := Candidate{Node: n.name, Refusals: n.refusals(&d)}
		if len(c.Refusals) > 0 {
			refused = append(refused, c)
			continue
		}
		if same != nil && n.index < len(same.byNode) {
			c.Same = int(same.byNode[n.index])
		}
		fitting, out = append(fitting, n), append(out, c)
	}
	for i, score := range s.scores(&d, fitting) {
		out[i].Score = score
	}
	slices.SortStableFunc(out, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Node, b.Node))
	})
	return append(out, refused...)
}
