package reconciler

import (
	"fmt"
	"strings"
)

// Effects are what a plan does to what runs. Package effects works them out.
type Effects struct {
	New       int // pods that are made
	Restarted int // pods of which a container is started anew where it is
	Replaced  int // pods that end and are made again
	Moved     int // of the replaced, and of those of deleted nodes: on another node
	Deleted   int // pods that end

	// Notes are what a person might expect and does not happen.
	Notes []string

	// Unfit are new pods that fit on no known node. Scheduled is false when no
	// node is known, and nothing was tried.
	Scheduled bool
	Unfit     []Unfit
}

// Unfit are pods of one object that fit nowhere, and why, in the scheduler's
// words.
type Unfit struct {
	Object string // "ReplicationController shop/web"
	Pods   int
	Reason string
}

// String is the pods in a few words, "5 new, 3 replaced", or "" for none.
func (e *Effects) String() string {
	if e == nil {
		return ""
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{e.New, "new"}, {e.Replaced, "replaced"}, {e.Restarted, "restarted"}, {e.Moved, "moved"}, {e.Deleted, "deleted"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// Lines are what there is to say beside the summary.
func (e *Effects) Lines() []string {
	if e == nil {
		return nil
	}
	var out []string
	for _, u := range e.Unfit {
		out = append(out, fmt.Sprintf("does not fit: %d of %s: %s", u.Pods, u.Object, u.Reason))
	}
	for _, n := range e.Notes {
		out = append(out, "note: "+n)
	}
	return out
}
