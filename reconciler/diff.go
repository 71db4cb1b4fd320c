package reconciler

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Desired is what the sources declare together: by object, the source and the
// item.
type Desired map[schema.Key]Declared

// Declared is an item with the source that it belongs to.
type Declared struct {
	Source string
	Item   manifests.Item
}

// NewDesired joins sets; of an object in two of them, which a Loader refuses,
// the first stays.
func NewDesired(sets ...*manifests.Set) Desired {
	out := Desired{}
	for _, set := range sets {
		for _, item := range set.Items {
			if _, taken := out[item.Key]; !taken {
				out[item.Key] = Declared{Source: set.Source, Item: item}
			}
		}
	}
	return out
}

// Input is what Diff compares.
type Input struct {
	Desired   Desired
	Inventory Inventory
	// Live returns the object that is there, or nil. It is not changed.
	Live func(schema.Key) schema.Object
	// Read holds the sources that were read whole: only what they applied
	// before can be deleted.
	Read map[string]bool
	// Keys narrows the comparison to some objects; nil means all of Desired and
	// Inventory.
	Keys      []schema.Key
	Validator registry.Validator
	// Known, if not nil, remembers what was found to be unchanged, so that it
	// is not compared again.
	Known Known

	seal *seal // of a Base in which the values of secrets are ids
}

// Known remembers at which version a live object was as declared.
type Known map[schema.Key]knownVersion

type knownVersion struct{ hash, live string }

// Diff compares what is declared, what was applied and what is there. It is
// pure but for in.Known. The error is one of the program or of the state;
// faults of what is declared are in the plan's Problems.
func Diff(in Input) (*Plan, error) {
	plan := &Plan{}
	for _, key := range in.keys() {
		var err error
		if declared, ok := in.Desired[key]; ok {
			err = plan.want(in, key, declared)
		} else if owned, ok := in.Inventory[key]; ok && in.Read[owned.Source] {
			err = plan.drop(in, key, owned)
		}
		if err != nil {
			return nil, fmt.Errorf("diff %s: %w", key, err)
		}
	}
	slices.SortStableFunc(plan.Changes, inOrder)
	plan.hideSecrets()
	return plan, nil
}

func (in Input) keys() []schema.Key {
	if in.Keys != nil {
		return in.Keys
	}
	keys := make([]schema.Key, 0, len(in.Desired))
	for key := range in.Desired {
		keys = append(keys, key)
	}
	for key := range in.Inventory {
		if _, both := in.Desired[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, schema.Key.Compare)
	return keys
}

// inOrder sorts what is made before what is deleted, and each in the order of
// its kinds, deletions from the end; but deleted services come before what may
// want their addresses and ports.
func inOrder(a, b Change) int {
	return rank(a) - rank(b)
}

func rank(c Change) int {
	kind, _ := schema.KindOfResource(c.Key.Resource)
	if freesClaims(c) {
		return kind.Order - 5
	}
	if c.Action == Delete || c.Action == Forget {
		return 2000 - kind.Order
	}
	return kind.Order
}

// want plans what brings one declared object about.
func (p *Plan) want(in Input, key schema.Key, d Declared) error {
	owned, applied := in.Inventory[key]
	live := in.Live(key)
	item, err := in.seal.item(d.Item)
	if err != nil {
		return err
	}
	c := Change{
		Key: key, Source: d.Source, Place: item.Place, item: &item, hash: d.Item.Hash,
		Entry: entryOf(item), Drift: applied && owned.Source == d.Source && owned.Entry.Hash == item.Hash,
	}
	if applied && owned.Source != d.Source {
		c.From = owned.Source
	}
	if live == nil {
		c.Action, c.Object = Create, item.Object
		p.Changes = append(p.Changes, c)
		return nil
	}
	if live.GetDeletionTimestamp() != nil {
		p.Waiting = append(p.Waiting, key)
		return nil
	}
	c.UID, c.Entry.UID = live.GetUID(), live.GetUID()
	return p.change(in, c, live, owned, applied)
}

// change plans the update of a live object.
func (p *Plan) change(in Input, c Change, live schema.Object, owned Owned, applied bool) error {
	version := knownVersion{hash: c.Entry.Hash, live: live.GetResourceVersion()}
	sameEntry := applied && owned.Source == c.Source && owned.Entry.Hash == c.Entry.Hash && owned.Entry.UID == c.UID
	inPlace := sameEntry && owned.Entry.place(c.Source) == c.Entry.place(c.Source)
	if inPlace && in.Known[c.Key] == version {
		p.unchanged(c, owned)
		return nil
	}
	var before []byte
	if applied {
		before = owned.Entry.Declared
	}
	merged, err := merge(before, c.item.Declared, live, in.Validator.Default)
	if err != nil {
		return err
	}
	if merged == nil {
		if in.Known != nil {
			in.Known[c.Key] = version
		}
		if !inPlace {
			c.Action = Adopt
			p.Changes = append(p.Changes, c)
		}
		p.unchanged(c, owned)
		return nil
	}
	c.Action, c.Object = Update, merged
	if c.Fields, err = fieldChanges(live, merged, before, c.item.Declared); err != nil {
		return err
	}
	if err := place(c.item, c.Fields); err != nil {
		return err
	}
	p.judge(in, c, live)
	return nil
}

// judge refuses an update that Kubernetes' rules do not allow, and turns that
// of a pod into its resize or its replacement.
func (p *Plan) judge(in Input, c Change, live schema.Object) {
	errs := in.Validator.ValidateUpdate(c.Object, live)
	if len(errs) == 0 {
		p.Changes = append(p.Changes, c)
		return
	}
	pod, isPod := live.(*corev1.Pod)
	if isPod && !ended(pod) && len(in.Validator.ValidateResize(c.Object.(*corev1.Pod), pod)) == 0 {
		c.Action = Resize
		p.Changes = append(p.Changes, c)
		return
	}
	if isPod && len(in.Validator.Validate(c.item.Object)) == 0 {
		c.Action, c.Object, c.Protected = Replace, c.item.Object, protects(live)
		p.Changes = append(p.Changes, c)
		return
	}
	for _, e := range errs {
		place, _ := c.item.Position(e.Field)
		p.Problems = append(p.Problems, Problem{Key: c.Key, Place: place, Message: e.Error()})
	}
}

// ended reports whether nothing of a pod will run any more.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func (p *Plan) unchanged(c Change, owned Owned) {
	p.Unchanged++
	if owned.Source == c.Source && owned.Entry.File != "" && owned.Entry.File != c.Place.File {
		p.Moved++
		p.Moves = append(p.Moves, Move{Key: c.Key, Source: c.Source, From: owned.Entry.place(c.Source), To: c.Place})
	}
}

// drop plans the end of an object that its source no longer declares. One that
// was replaced by another of the same name is somebody else's.
func (p *Plan) drop(in Input, key schema.Key, owned Owned) error {
	c := Change{Action: Delete, Key: key, Source: owned.Source, Place: owned.Entry.place(owned.Source), UID: owned.Entry.UID}
	live := in.Live(key)
	switch {
	case live == nil:
		c.Action = Forget
	case live.GetUID() != owned.Entry.UID:
		c.Action = Forget
	case live.GetDeletionTimestamp() != nil, registry.Undeletable(key):
		c.Action = Forget
	case Kept(key):
		return p.release(in, c, live, owned)
	default:
		c.Protected = protects(live)
	}
	p.Changes = append(p.Changes, c)
	return nil
}

func entryOf(item manifests.Item) Entry {
	return Entry{
		File: item.Place.File, Line: item.Place.Line, Column: item.Place.Column, Document: item.Place.Document,
		Hash: item.Hash, Declared: item.Declared,
	}
}

// Err joins the plan's problems into one error, or returns nil.
func (p *Plan) Err() error {
	var errs []error
	for _, problem := range p.Problems {
		errs = append(errs, problem)
	}
	return errors.Join(errs...)
}
