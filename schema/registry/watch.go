package registry

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/evenkeel/evenkeel/schema"
)

// Event is one change of an object: watch.Added, watch.Modified or
// watch.Deleted, in which case Object is the last state that was there, with
// the revision of its end.
type Event[T schema.Object] struct {
	Type     watch.EventType
	Object   T
	Before   T // what was there; nil for watch.Added
	Revision int64
}

// Watch calls emit with every change of a kind's objects after the revision
// from, as List returned it, in order. Objects are shared: not to be changed.
// It blocks like Store.Watch; ErrCompacted means: list again.
func (r *Registries) Watch(ctx context.Context, kind *schema.Kind, namespace string, from int64, emit func(Event[schema.Object]) error) error {
	prefix := watchPrefix(kind, namespace)
	kvs, _, err := r.store.List(ctx, prefix, from)
	if err != nil {
		return err
	}
	state, err := newJoiner(kvs)
	if err != nil {
		return err
	}
	return r.store.Watch(ctx, prefix, from+1, func(b Batch) error {
		for _, c := range b.Changes {
			event, err := state.step(c)
			if err != nil {
				return err
			}
			wanted := event.Object != nil && (namespace == "" || event.Object.GetNamespace() == namespace)
			if !wanted {
				continue
			}
			if err := emit(event); err != nil {
				return err
			}
		}
		return nil
	})
}

// step applies a change and says what became of the object that it belongs to.
func (j *joiner) step(c Change) (Event[schema.Object], error) {
	before := j.snapshot(c)
	key, err := j.apply(c)
	if err != nil || key == (schema.Key{}) {
		return Event[schema.Object]{}, err
	}
	after := j.objects[key.Resource][key]
	switch {
	case before == nil && after == nil:
		return Event[schema.Object]{}, nil
	case before == nil:
		return Event[schema.Object]{Type: watch.Added, Object: after, Revision: c.Mod}, nil
	case after == nil:
		last := before.DeepCopyObject().(schema.Object)
		last.SetResourceVersion(fmt.Sprint(c.Mod))
		return Event[schema.Object]{Type: watch.Deleted, Object: last, Before: before, Revision: c.Mod}, nil
	}
	return Event[schema.Object]{Type: watch.Modified, Object: after, Before: before, Revision: c.Mod}, nil
}

// snapshot returns the object as it was before a change of one of its parts.
func (j *joiner) snapshot(c Change) schema.Object {
	key, ok := objectKey(c.Key)
	if !ok {
		return nil
	}
	return j.objects[key.Resource][key]
}
