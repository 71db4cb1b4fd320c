package reconciler

import (
	"maps"
	"slices"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Tracker makes one plan after the other of the same sources. It remembers
// which objects were found to be as declared, and compares only the others and
// those that moved since; its plan is the one that Diff makes of everything.
// Whoever changes an object or an entry of the inventory tells it by Touch. It
// is for one goroutine.
type Tracker struct {
	validator registry.Validator
	live      func(schema.Key) schema.Object

	sets    []*manifests.Set
	desired Desired
	known   Known
	touched map[schema.Key]bool // to be compared
	all     bool                // everything is
}

// NewTracker returns a tracker that wants nothing yet; live is as in Input.
func NewTracker(validator registry.Validator, live func(schema.Key) schema.Object) *Tracker {
	return &Tracker{validator: validator, live: live, desired: Desired{}, known: Known{}, touched: map[schema.Key]bool{}, all: true}
}

// Desired is what the sets declare together. It is read-only, and changes with
// the next call of Want.
func (t *Tracker) Desired() Desired { return t.desired }

// Want says what the sets are now, in place of those before; of an object in
// two of them the first counts.
func (t *Tracker) Want(sets ...*manifests.Set) {
	before := t.sets
	t.sets = slices.Clone(sets)
	if !slices.EqualFunc(before, sets, func(a, b *manifests.Set) bool { return a.Source == b.Source }) {
		t.desired, t.all = NewDesired(sets...), true
		return
	}
	for i, set := range sets {
		for _, key := range manifests.Changed(before[i], set) {
			t.touched[key] = true
			t.declare(key)
		}
	}
}

// declare looks up what the sets say of an object.
func (t *Tracker) declare(key schema.Key) {
	for _, set := range t.sets {
		if item, ok := set.Find(key); ok {
			t.desired[key] = Declared{Source: set.Source, Item: item}
			return
		}
	}
	delete(t.desired, key)
	delete(t.known, key)
}

// Touch says that objects, or what the inventory has of them, may be others
// than before.
func (t *Tracker) Touch(keys ...schema.Key) {
	for _, key := range keys {
		t.touched[key] = true
	}
}

// TouchAll has everything compared again.
func (t *Tracker) TouchAll() { t.all = true }

// Plan compares what may have moved, with the inventory as it is now. What the
// plan changes, or cannot, is compared again the next time.
func (t *Tracker) Plan(inventory Inventory) (*Plan, error) {
	in := Input{Desired: t.desired, Inventory: inventory, Live: t.live, Read: map[string]bool{}, Validator: t.validator, Known: t.known}
	for _, set := range t.sets {
		in.Read[set.Source] = true
	}
	untouched := 0
	if !t.all {
		in.Keys = slices.AppendSeq(make([]schema.Key, 0, len(t.touched)), maps.Keys(t.touched)) // nil would be all
		slices.SortFunc(in.Keys, schema.Key.Compare)
		untouched = len(t.desired)
		for _, key := range in.Keys {
			if _, ok := t.desired[key]; ok {
				untouched--
			}
		}
	}
	plan, err := Diff(in)
	if err != nil {
		return nil, err
	}
	plan.Unchanged += untouched
	t.all = false
	clear(t.touched)
	t.keepUnsettled(plan)
	return plan, nil
}

func (t *Tracker) keepUnsettled(plan *Plan) {
	for _, c := range plan.Changes {
		t.touched[c.Key] = true
	}
	for _, p := range plan.Problems {
		t.touched[p.Key] = true
	}
	t.Touch(plan.Waiting...)
}
