package control

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Checks are the reconciler's checks across objects, declared and in the
// cluster. What they cost is in proportion to what changed.
type Checks struct {
	mirror  *registry.Mirror
	off     check.Disabled
	checker *check.Checker // nil before the first check
	sources []string       // that are checked
	nodes   map[string]*corev1.Node
}

var _ reconciler.Checks = (*Checks)(nil)

// NewChecks returns checks on what a mirror holds, but for those turned off.
func NewChecks(mirror *registry.Mirror, off check.Disabled) *Checks {
	return &Checks{mirror: mirror, off: off, nodes: map[string]*corev1.Node{}}
}

// Moved takes in what is under the keys now.
func (c *Checks) Moved(keys []schema.Key, inventory reconciler.Inventory) {
	if c.checker == nil {
		return // the first check takes in everything
	}
	for _, key := range keys {
		c.take(key, c.mirror.Get(key), inventory)
	}
}

// take takes in what lives under a key. What a source has applied that is
// checked stays if it is declared, and is known from there, or else goes.
func (c *Checks) take(key schema.Key, live schema.Object, inventory reconciler.Inventory) {
	if key.Resource == schema.Nodes.Resource {
		if node, ok := live.(*corev1.Node); ok {
			c.nodes[key.Name] = node
		} else {
			delete(c.nodes, key.Name)
		}
	}
	if owned, ok := inventory[key]; ok && slices.Contains(c.sources, owned.Source) {
		live = nil
	}
	c.checker.Beside(key, live)
}

// Check says what check.Check does of the sets and the cluster.
func (c *Checks) Check(sets []*manifests.Set, inventory reconciler.Inventory) manifests.Diagnostics {
	var sources []string
	for _, set := range sets {
		sources = append(sources, set.Source)
	}
	if c.checker == nil || !slices.Equal(sources, c.sources) {
		c.sources = sources
		c.checker = check.NewChecker(true, c.off)
		for _, kind := range schema.Kinds {
			if kind.Declarable {
				for _, obj := range c.mirror.List(kind, "") {
					c.take(schema.KeyOf(obj), obj, inventory)
				}
			}
		}
	}
	c.checker.Declare(sets...)
	c.checker.SetNodes(slices.Collect(maps.Values(c.nodes)))
	return c.checker.Findings()
}

// goes reports whether one of the sets is of the source that applied an object
// and none declares it, so that it will be deleted.
func goes(key schema.Key, owned reconciler.Owned, sets []*manifests.Set) bool {
	return !reconciler.Kept(key) && slices.ContainsFunc(sets, func(s *manifests.Set) bool { return s.Source == owned.Source }) &&
		!slices.ContainsFunc(sets, func(s *manifests.Set) bool { _, stays := s.Find(key); return stays })
}

// ClusterOf is what stays of the cluster in base beside what the sets declare:
// what their sources no longer declare goes.
func ClusterOf(base *reconciler.Base, sets []*manifests.Set) check.Cluster {
	out := check.Cluster{Known: true}
	for key, obj := range base.Objects {
		if owned, ok := base.Inventory[key]; ok && goes(key, owned, sets) {
			continue
		}
		if node, isNode := obj.(*corev1.Node); isNode && key.Resource == schema.Nodes.Resource {
			out.Nodes = append(out.Nodes, node)
		}
		out.Objects = append(out.Objects, obj)
	}
	return out
}
