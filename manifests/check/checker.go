package check

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// Checker says what Check says, again and again: it remembers what it was
// given and what was right about it, so that its work is in proportion to what
// changed. It is for one goroutine.
type Checker struct {
	known bool
	off   Disabled
	index *index
	sets  []*manifests.Set
	nodes []*corev1.Node // by name

	fresh    bool // nothing was looked at yet
	touched  map[*object]bool
	suspects map[*object]bool // of which there may be something to say
}

// NewChecker returns a checker that was given nothing yet; known says that it
// will be told of all that the cluster holds.
func NewChecker(known bool, off Disabled) *Checker {
	return &Checker{known: known, off: off, index: newIndex(0), fresh: true, touched: map[*object]bool{}, suspects: map[*object]bool{}}
}

// Declare says what the sets are now, in place of those before. They must be
// complete, that is, loaded without errors.
func (c *Checker) Declare(sets ...*manifests.Set) {
	before := c.sets
	c.sets = slices.Clone(sets)
	if !slices.EqualFunc(before, sets, func(a, b *manifests.Set) bool { return a.Source == b.Source }) {
		c.declareAll()
		return
	}
	for i, set := range sets {
		for _, key := range manifests.Changed(before[i], set) {
			c.redeclare(key)
		}
	}
}

// declareAll takes in the sets as if there were none before.
func (c *Checker) declareAll() {
	n := 0
	for _, set := range c.sets {
		n += len(set.Items)
	}
	before := c.index.objects
	c.index, c.fresh = newIndex(n), true
	for i, set := range c.sets {
		for j := range set.Items {
			item := set.Items[j]
			if c.index.objects[item.Key] == nil {
				c.index.add(&object{key: item.Key, item: &item, set: i})
			}
		}
	}
	for key, o := range before {
		if o.beside != nil {
			c.Beside(key, o.beside)
		}
	}
}

// redeclare looks up what the sets say of an object. It copies the item, so
// that not all of a set is kept for one.
func (c *Checker) redeclare(key schema.Key) {
	next := object{key: key}
	for i, set := range c.sets {
		if item, ok := set.Find(key); ok {
			next.item, next.set = &item, i
			break
		}
	}
	if o := c.index.objects[key]; o != nil {
		next.beside = o.beside
	}
	c.put(next)
}

// Beside says what the cluster holds under a key: an object, or nil. See
// Cluster.Objects for which objects it need be told of.
func (c *Checker) Beside(key schema.Key, live schema.Object) {
	if live != nil && !counts(live) {
		live = nil
	}
	o := c.index.objects[key]
	switch {
	case o == nil && live == nil:
	case o != nil && o.item != nil:
		o.beside = live // what is declared counts
	default:
		c.put(object{key: key, beside: live})
	}
}

// counts reports whether an object of the cluster matters to a check.
func counts(live schema.Object) bool {
	switch live.(type) {
	case *corev1.Namespace, *corev1.ConfigMap, *corev1.Secret, *corev1.PersistentVolumeClaim, *corev1.ServiceAccount,
		*corev1.Service, *corev1.Pod, *corev1.ReplicationController:
		return metav1.GetControllerOfNoCopy(live) == nil
	}
	return false
}

// put replaces what is known of an object.
func (c *Checker) put(next object) {
	if o := c.index.objects[next.key]; o != nil {
		c.touchAround(o)
		c.index.remove(o)
		delete(c.touched, o)
		delete(c.suspects, o)
	}
	if next.item != nil || next.beside != nil {
		o := &next
		c.index.add(o)
		c.touchAround(o)
	}
}

// touchAround notes an object, and those that may stand otherwise because of
// it, to be looked at.
func (c *Checker) touchAround(o *object) {
	if c.fresh {
		return // everything is looked at
	}
	c.touched[o] = true
	switch {
	case o.spec != nil:
		for _, s := range c.index.services[o.key.Namespace] {
			if hasAll(o.labels, s.service().Spec.Selector) {
				c.touched[s] = true
			}
		}
	case needs[o.key.Resource].code != "":
		for _, w := range c.index.workloadIn[o.key.Namespace] {
			c.touched[w] = true
		}
	}
}

// SetNodes says which nodes are known. Those that do not say what they have,
// since they are declared and no agent has reported, are not.
func (c *Checker) SetNodes(nodes []*corev1.Node) {
	before := c.nodes
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return len(n.Status.Allocatable) == 0 })
	c.nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	if c.fresh || slices.EqualFunc(before, c.nodes, offersTheSame) {
		return
	}
	for _, workloads := range c.index.workloadIn {
		for _, w := range workloads {
			c.touched[w] = true
		}
	}
}

// offersTheSame reports whether two states of nodes take the same pods.
func offersTheSame(a, b *corev1.Node) bool {
	return a == b || a.Name == b.Name && maps.Equal(a.Labels, b.Labels) &&
		a.Status.Allocatable.Cpu().Cmp(*b.Status.Allocatable.Cpu()) == 0 && a.Status.Allocatable.Memory().Cmp(*b.Status.Allocatable.Memory()) == 0
}

// Findings are what Check returns for all that the checker knows now.
func (c *Checker) Findings() manifests.Diagnostics {
	if c.fresh {
		clear(c.suspects)
		for _, o := range c.index.objects {
			c.judge(o)
		}
	} else {
		for o := range c.touched {
			c.judge(o)
		}
	}
	c.fresh = false
	clear(c.touched)
	return c.report()
}

// judge notes whether something may have to be said of an object.
func (c *Checker) judge(o *object) {
	if c.suspicious(o) {
		c.suspects[o] = true
	} else {
		delete(c.suspects, o)
	}
}

// suspicious reports whether the checks must look at an object to say what is
// wrong with it, if anything is. Where it says no, they would say nothing.
func (c *Checker) suspicious(o *object) bool {
	if o.item == nil || c.index.objects[o.key] != o {
		return false
	}
	if _, ignores := o.item.Object.GetAnnotations()[Ignore]; ignores {
		return true
	}
	switch {
	case o.spec != nil:
		return c.index.lacksReferent(o) || len(c.nodeFindings(o)) > 0
	case o.isService:
		return c.index.leadsAstray(o)
	}
	return false
}
