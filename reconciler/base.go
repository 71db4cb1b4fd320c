package reconciler

import (
	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Base is what a plan is made against: what is there, and what sources applied
// before. The same base and the same sets make the same plan, wherever the
// base comes from. It is read-only.
type Base struct {
	Objects   map[schema.Key]schema.Object
	Inventory Inventory
	Heads     map[string]Head

	seal *seal
}

// EmptyBase is a cluster in which nothing is.
func EmptyBase() *Base {
	return &Base{Objects: map[schema.Key]schema.Object{}, Inventory: Inventory{}, Heads: map[string]Head{}}
}

// LiveBase is what a synced mirror of all under schema.Root holds, but for
// events.
func LiveBase(m *registry.Mirror) (*Base, error) {
	b := EmptyBase()
	b.Objects = liveObjects(m)
	var err error
	b.Inventory, b.Heads, err = Books(m.Raw(schema.SourcesPrefix))
	return b, err
}

func liveObjects(m *registry.Mirror) map[schema.Key]schema.Object {
	out := map[schema.Key]schema.Object{}
	for _, kind := range schema.Kinds {
		if kind == schema.Events {
			continue
		}
		for _, obj := range m.List(kind, "") {
			out[schema.KeyOf(obj)] = obj
		}
	}
	return out
}

// DeclaredBase is a cluster in which the sets, and nothing else, were applied.
func DeclaredBase(sets ...*manifests.Set) *Base {
	b := EmptyBase()
	for key, d := range NewDesired(sets...) {
		b.Objects[key] = d.Item.Object
		b.Inventory[key] = Owned{Source: d.Source, Entry: entryOf(d.Item)}
	}
	for _, set := range sets {
		b.Heads[set.Source] = Head{Source: set.Source, Location: set.Location, Revision: set.Revision, Tree: set.Tree, Objects: len(set.Items), Result: Applied}
	}
	return b
}

// Live returns the object that is there, or nil. One that has no values, but
// ids of them, must not be written anywhere: it is fit for a plan alone.
func (b *Base) Live(key schema.Key) schema.Object { return b.Objects[key] }

// Plan compares sets, which are all that their sources declare, with the base.
// The plan of a base that is not live may not be applied.
func (b *Base) Plan(validator registry.Validator, sets ...*manifests.Set) (*Plan, error) {
	in := Input{
		Desired: NewDesired(sets...), Inventory: b.Inventory, Live: b.Live, Read: map[string]bool{}, Validator: validator, seal: b.seal,
	}
	for _, set := range sets {
		in.Read[set.Source] = true
	}
	return Diff(in)
}
