package reconciler

import (
	"context"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// historian is a source that knows which commit last changed a file, for as
// many of the files as it finds out in reasonable time.
type historian interface {
	LastChanges(ctx context.Context, revision string, files []string) map[string]*manifests.Commit
}

// originate says of every change which commit it comes from. What git did not
// change keeps the commit that it has.
func (l *loop) originate(ctx context.Context, plan *Plan) {
	inForce := l.inForce()
	fresh := map[string][]*Change{}
	for i := range plan.Changes {
		c := &plan.Changes[i]
		set := inForce[c.Source]
		if c.item == nil || set == nil {
			continue
		}
		c.location = l.location(c.Source)
		owned, applied := l.inventory[c.Key]
		if applied && owned.Source == c.Source && owned.Entry.Hash == c.Entry.Hash && owned.Entry.Origin != nil {
			c.Entry.Origin = owned.Entry.Origin
		} else if set.Commit != nil {
			c.Entry.Origin = originOf(set.Commit)
			fresh[c.Source] = append(fresh[c.Source], c)
		}
	}
	for _, source := range l.cfg.Sources {
		if changes := fresh[source.Name()]; len(changes) > 0 {
			l.trace(ctx, source, inForce[source.Name()].Revision, changes)
		}
	}
}

// trace finds the commits of changes that came with a revision that is several
// commits ahead.
func (l *loop) trace(ctx context.Context, source manifests.Source, revision string, changes []*Change) {
	h, ok := source.(historian)
	if !ok {
		return
	}
	files := map[string][]*Change{}
	var names []string
	for _, c := range changes {
		if files[c.Entry.File] == nil {
			names = append(names, c.Entry.File)
		}
		files[c.Entry.File] = append(files[c.Entry.File], c)
	}
	for file, commit := range h.LastChanges(ctx, revision, names) {
		for _, c := range files[file] {
			c.Entry.Origin = originOf(commit)
		}
	}
}

// location is how a source's place is written on its objects.
func (l *loop) location(source string) string {
	if set := l.inForce()[source]; set != nil && set.Location != "" {
		return set.Location
	}
	return l.heads[source].Location
}

// restampBatch is how many objects are stamped in one transaction.
const restampBatch = 30

// restamp puts back the annotations that somebody took off the objects that
// moved, and gives them to those that were there before their source. The
// objects of a source that merely moved in its files keep what they have: a
// line more at the top of a file is no reason to write all that follow.
func (l *loop) restamp(ctx context.Context, moved []schema.Key, plan *Plan) error {
	keys := slices.Clone(moved)
	if l.full {
		for key := range l.inventory {
			keys = append(keys, key)
		}
	}
	for _, c := range plan.Changes {
		if c.Action == Adopt {
			keys = append(keys, c.Key)
		}
	}
	var writes []registry.Write
	for _, key := range keys {
		owned, ok := l.inventory[key]
		live := l.cfg.Mirror.Stored(key)
		if !ok || live == nil || live.GetUID() != owned.Entry.UID || live.GetDeletionTimestamp() != nil {
			continue
		}
		if location := l.location(owned.Source); location != "" && !isStamped(live, location, owned.Entry) {
			if obj, changed := stamped(live, location, owned.Entry); changed {
				writes = append(writes, registry.Write{Update: obj})
			}
		}
	}
	return l.commitStamps(ctx, writes)
}

// commitStamps writes what it can: who was faster is looked at again because of
// what he wrote.
func (l *loop) commitStamps(ctx context.Context, writes []registry.Write) error {
	for len(writes) > 0 {
		n := min(len(writes), restampBatch)
		_, revision, err := l.cfg.Registries.Commit(ctx, writes[:n])
		switch {
		case errors.Is(err, registry.ErrFenced) || ctx.Err() != nil:
			return err
		case errors.Is(err, registry.ErrConflict) || apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		case err != nil:
			l.cfg.Logger.Warn("provenance not written", "objects", n, "error", err)
		default:
			if err := l.cfg.Mirror.WaitFor(ctx, revision); err != nil {
				return err
			}
		}
		writes = writes[n:]
	}
	return nil
}
