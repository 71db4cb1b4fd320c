package reconciler

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// ErrOutdated is the error of Apply when what the plan was made from has
// changed meanwhile: make a new plan. What was applied stays and is in the
// inventory.
var ErrOutdated = errors.New("plan is out of date")

// txnRoom is how many operations Apply puts in one transaction, less than the
// store takes so that an estimate may be wrong.
const txnRoom = 110

// Apply writes a plan in its order: in one transaction if it fits, otherwise
// in several, each of which leaves objects and inventory agreeing, so that an
// interrupted apply goes on with the next plan. It returns the revision of the
// last transaction, 0 if there was none.
func Apply(ctx context.Context, regs *registry.Registries, plan *Plan) (int64, error) {
	var revision int64
	all := batches(plan.Changes)
	if len(all) > 1 {
		if err := prepareServices(ctx, regs, plan.Changes); err != nil {
			return 0, err
		}
	}
	for _, batch := range all {
		var writes []registry.Write
		for _, c := range batch {
			w, err := c.writes()
			if err != nil {
				return revision, err
			}
			writes = append(writes, w...)
		}
		_, at, err := regs.Commit(ctx, writes)
		if err != nil {
			return revision, explain(err, batch)
		}
		revision = max(revision, at)
	}
	return revision, nil
}

// prepareServices finds, before the first of several transactions, what only
// the registries can say of a service: that its address or node port is none of
// theirs. All else was judged when the plan was made.
func prepareServices(ctx context.Context, regs *registry.Registries, changes []Change) error {
	for _, c := range changes {
		if c.Key.Resource != schema.Services.Resource || (c.Action != Create && c.Action != Update) {
			continue
		}
		writes, err := c.ownWrites()
		if err != nil {
			return err
		}
		if err := regs.Prepare(ctx, writes); err != nil {
			return explain(err, []Change{c})
		}
	}
	return nil
}

// batches cuts changes into transactions. What frees addresses and ports is
// committed before what may want them.
func batches(changes []Change) [][]Change {
	var out [][]Change
	var batch []Change
	room := txnRoom
	for i, c := range changes {
		cost := c.cost()
		barrier := i > 0 && freesClaims(changes[i-1]) && !freesClaims(c)
		if len(batch) > 0 && (cost > room || barrier) {
			out = append(out, batch)
			batch, room = nil, txnRoom
		}
		batch = append(batch, c)
		room -= cost
	}
	if len(batch) > 0 {
		out = append(out, batch)
	}
	return out
}

func freesClaims(c Change) bool {
	return c.Action == Delete && c.Key.Resource == schema.Services.Resource
}

func (c Change) cost() int {
	switch c.Action {
	case Create:
		return registry.Cost(registry.Write{Create: c.Object}) + 2
	case Update, Resize:
		return registry.Cost(registry.Write{Update: c.Object}) + 2
	case Delete, Replace:
		return registry.Cost(registry.Write{Delete: &registry.Deletion{Key: c.Key}}) + 1
	}
	return 2
}

// writes are a change's own write and those of the inventory. An object that
// another source had is no longer in that one's.
func (c Change) writes() ([]registry.Write, error) {
	writes, err := c.ownWrites()
	if c.From != "" && c.Action != Replace {
		old := registry.Delete(entryPath(c.From, c.Key))
		writes = append(writes, registry.Write{Raw: &old})
	}
	return writes, err
}

func (c Change) ownWrites() ([]registry.Write, error) {
	path := entryPath(c.Source, c.Key)
	remove := registry.Delete(path)
	switch c.Action {
	case Create:
		return []registry.Write{{Create: c.stamped(), Also: c.record}}, nil
	case Update:
		if c.Release {
			return []registry.Write{{Update: c.Object}, {Raw: &remove}}, nil
		}
		return []registry.Write{{Update: c.stamped(), Also: c.record}}, nil
	case Resize:
		return []registry.Write{{Update: c.stamped(), Resize: true, Also: c.record}}, nil
	case Replace:
		return []registry.Write{{Delete: &registry.Deletion{Key: c.Key, UID: c.UID}}}, nil
	case Delete:
		return []registry.Write{{Delete: &registry.Deletion{Key: c.Key, UID: c.UID}}, {Raw: &remove}}, nil
	case Forget:
		return []registry.Write{{Raw: &remove}}, nil
	case Adopt:
		op, err := putJSON(path, c.Entry)
		return []registry.Write{{Raw: &op}}, err
	}
	return nil, fmt.Errorf("apply %s: unknown action %q", c.Key, c.Action)
}

// stamped is the object with the annotations that say where it came from.
func (c Change) stamped() schema.Object {
	if c.location == "" {
		return c.Object
	}
	obj, _ := stamped(c.Object, c.location, c.Entry)
	return obj
}

// record is the inventory's entry for the object as it will be stored.
func (c Change) record(stored schema.Object) ([]registry.Op, error) {
	c.Entry.UID = stored.GetUID()
	op, err := putJSON(entryPath(c.Source, c.Key), c.Entry)
	return []registry.Op{op}, err
}

// explain turns a refused transaction into ErrOutdated or into the Problem of
// the change that it is about.
func explain(err error, batch []Change) error {
	if errors.Is(err, registry.ErrConflict) || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrOutdated, err)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return fmt.Errorf("apply: %w", err)
	}
	details := status.Status().Details
	for _, c := range batch {
		kind, _ := schema.KindOfResource(c.Key.Resource)
		if c.Key.Name == details.Name && (details.Kind == kind.GVK.Kind || details.Kind == kind.Resource) {
			return Problem{Key: c.Key, Place: c.Place, Message: status.Status().Message}
		}
	}
	return fmt.Errorf("apply: %w", err)
}
