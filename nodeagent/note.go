package nodeagent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// note is what the agent keeps with a container in the runtime, so that its
// successor, should it be killed, goes on with what it had begun: on the
// machine's own clock, for a successor on the same machine.
type note struct {
	Hook    bool      `json:"hook,omitempty"`    // its postStart hook is not through
	Since   time.Time `json:"since,omitzero"`    // when it was told to end
	Grace   *int64    `json:"grace,omitempty"`   // seconds that it has for that; nil: its pod's
	Replace bool      `json:"replace,omitempty"` // it is to be started anew, however it ends
	Resize  bool      `json:"resize,omitempty"`  // that is for other resources
	Doom    *Doom     `json:"doom,omitempty"`    // why its pod must fail
}

// noteOf reads a container's note; the zero note if there is none.
func noteOf(c *runtime.Status) note {
	var n note
	if c.Note == "" || json.Unmarshal([]byte(c.Note), &n) != nil {
		return note{}
	}
	return n
}

// maxNote is how long a note is at most, in bytes: containerd takes labels of
// 4096 with their names.
const maxNote = 3072

// String cuts the message in the note until the note is short enough.
func (n note) String() string {
	if n == (note{}) {
		return ""
	}
	data, err := json.Marshal(n)
	if err != nil { // it has nothing that cannot be written
		panic(err)
	}
	if len(data) > maxNote && n.Doom != nil && n.Doom.Message != "" {
		doom := *n.Doom
		doom.Message = doom.Message[:len(doom.Message)/2]
		n.Doom = &doom
		return n.String()
	}
	return string(data)
}

// noteWithin bounds the writing of a note, which is not broken off half-way:
// notes on a container take effect in the order in which they are made.
const noteWithin = 5 * time.Second

// leave puts a note on a container in place of the one before, unless ctx has
// ended. It may be called from anywhere.
func (w *worker) leave(ctx context.Context, id string, n note) error {
	w.noting.Lock()
	defer w.noting.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWithin)
	defer cancel()
	text := n.String()
	if err := w.agent.cfg.Runtime.Note(ctx, id, text); err != nil {
		return fmt.Errorf("note for a successor: %w", err)
	}
	w.agent.observer.note(w.uid, id, text)
	return nil
}

// takeNotes takes over what an earlier process of the agent had decided.
func (w *worker) takeNotes(containers []runtime.Status) {
	for i := range containers {
		n := noteOf(&containers[i])
		if n.Replace {
			w.replaced[containers[i].ID] = true
		}
		if w.doom == nil {
			w.doom = n.Doom
		}
	}
}

// endingSince is when the first container of a pod was told to end for good,
// now if none was.
func endingSince(o Observed, now time.Time) time.Time {
	since := now
	for i := range o.Containers {
		if n := noteOf(&o.Containers[i]); !n.Replace && !n.Since.IsZero() && n.Since.Before(since) {
			since = n.Since
		}
	}
	return since
}
