package feed

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/watch"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// late is a history that begins before the mirror's, or is of a kind that the
// mirror does not hold: it is fed by a watch of the store for as long as
// somebody needs it. All that come back after a restart share one.
type late struct {
	*history
	users int
	stop  context.CancelFunc
}

// lateLocked returns a late history that covers a revision, a new one if there
// is none.
func (h *Hub) lateLocked(kind *schema.Kind, from int64) *late {
	for _, l := range h.late[kind.Resource] {
		if l.covers(from) {
			return l
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &late{history: newHistory(from), stop: cancel}
	h.late[kind.Resource] = append(h.late[kind.Resource], l)
	h.wg.Go(func() {
		err := h.cfg.Registries.Watch(ctx, kind, "", from, func(e registry.Event[schema.Object]) error {
			var after schema.Object
			if e.Type != watch.Deleted {
				after = e.Object
			}
			l.add([]*event{newEvent(e.Before, after, e.Revision)}, e.Revision)
			return nil
		})
		switch {
		case ctx.Err() != nil:
			err = errDone
		case err != nil:
			h.cfg.Logger.Debug("watch of the store ended", "kind", kind.Resource, "revision", from, "error", err)
			err = failure.Of(err, schema.Key{Resource: kind.Resource})
		}
		l.end(err)
	})
	return l
}

// leave lets go of a late history; the last one ends it.
func (h *Hub) leave(kind *schema.Kind, l *late) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	l.stop()
	h.late[kind.Resource] = slices.DeleteFunc(h.late[kind.Resource], func(have *late) bool { return have == l })
}

// sameStatus reports whether two states of an object at one version are the
// same: only a node's can differ, by the presence of its agent.
func sameStatus(a, b schema.Object) bool {
	x, ok := a.(*corev1.Node)
	if !ok {
		return true
	}
	y, ok := b.(*corev1.Node)
	return ok && equality.Semantic.DeepEqual(x.Status.Conditions, y.Status.Conditions)
}
