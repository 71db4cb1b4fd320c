package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Writer writes through registries and waits until the mirror has seen the
// writes, so that nobody decides on a mirror without them.
type Writer struct {
	Registries *registry.Registries // fenced by the leader's term
	Mirror     *registry.Mirror
}

// Commit is Registries.Commit; when it returns the mirror has seen the writes.
func (w Writer) Commit(ctx context.Context, writes ...registry.Write) ([]schema.Object, error) {
	objs, revision, err := w.Registries.Commit(ctx, writes)
	if err != nil {
		return nil, err
	}
	return objs, w.Mirror.WaitFor(ctx, revision)
}

// CommitAll commits writes in as few transactions as the store takes, in
// order, each on condition of the guards; it stops at the first error. What was
// committed before stays.
func (w Writer) CommitAll(ctx context.Context, writes []registry.Write, guards ...registry.Guard) error {
	const maxOps, maxBytes = 100, 1 << 20
	for len(writes) > 0 {
		n, ops, bytes := 0, 0, 0
		for n < len(writes) && (n == 0 || ops+registry.Cost(writes[n]) <= maxOps && bytes+size(writes[n]) <= maxBytes) {
			ops, bytes = ops+registry.Cost(writes[n]), bytes+size(writes[n])
			n++
		}
		for {
			_, err := w.Commit(ctx, append(guarded(guards), writes[:n]...)...)
			if errors.Is(err, registry.ErrTooLarge) && n > 1 {
				n /= 2
				continue
			}
			if err != nil {
				return err
			}
			break
		}
		writes = writes[n:]
	}
	return nil
}

// guarded are writes that are nothing but conditions.
func guarded(guards []registry.Guard) []registry.Write {
	var out []registry.Write
	for i := range guards {
		out = append(out, registry.Write{Guard: &guards[i]})
	}
	return out
}

// size is what is known of the bytes of a write.
func size(w registry.Write) int {
	if w.Raw != nil {
		return len(w.Raw.Value)
	}
	return 0
}

// Mod is the revision of an object's own key, for a registry.Guard. The object
// is one from Mirror.Stored, or of a kind that is not joined with a status.
func Mod(obj schema.Object) int64 {
	mod, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s has no revision: %v", schema.KeyOf(obj), err))
	}
	return mod
}

// Unchanged is the guard that an object is as it was read. See Mod.
func Unchanged(obj schema.Object) *registry.Guard {
	return &registry.Guard{Key: schema.KeyOf(obj).Path(), Mod: Mod(obj)}
}

// Recorder records events; a *registry.Recorder is one.
type Recorder interface {
	Event(about schema.Object, eventType, reason, message string)
}
