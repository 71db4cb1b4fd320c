package garbage

import (
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

// graph is who owns whom, by the owner references of all objects, kept up
// change by change. It is safe for concurrent use.
type graph struct {
	mu     sync.Mutex
	owners map[schema.Key]*owner // those that some object refers to, whether or not they are there
	refs   map[schema.Key]refs   // of the objects that have owners
}

// refs are an object's references to its owners.
type refs struct {
	uid  types.UID // of the object
	all  []metav1.OwnerReference
	keys []schema.Key
}

func (r refs) equal(other refs) bool {
	return r.uid == other.uid && slices.EqualFunc(r.all, other.all, func(a, b metav1.OwnerReference) bool {
		return a.UID == b.UID && a.Kind == b.Kind && a.Name == b.Name && a.APIVersion == b.APIVersion && blocks(a) == blocks(b)
	})
}

func blocks(r metav1.OwnerReference) bool {
	return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion
}

// owner is what of an owner decides about what it owns.
type owner struct {
	standing
	dependents map[schema.Key]bool
}

// standing is an owner's identity, and how it is ending if it is.
type standing struct {
	uid    types.UID // "" for one that is not there
	ending string    // the finalizer with which it waits for what it owns
}

func newGraph() *graph {
	return &graph{owners: map[schema.Key]*owner{}, refs: map[schema.Key]refs{}}
}

// set takes in an object as it is now, nil for one that is gone, and returns
// the keys that have to be looked at.
func (g *graph) set(key schema.Key, obj schema.Object, lookup func(schema.Key) schema.Object) []schema.Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, after := g.refs[key], refsOf(obj)
	o := g.owners[key]
	moved := o != nil && o.standing != standingOf(obj)
	if !moved && endingOf(obj) == "" && before.equal(after) {
		return nil // as nearly always: it is something else that changed
	}
	dirty := map[schema.Key]bool{key: len(after.all) > 0 || endingOf(obj) != ""}
	if moved {
		o.standing = standingOf(obj)
		for dependent := range o.dependents {
			dirty[dependent] = true
		}
	}
	g.replaceLocked(key, before, after, lookup)
	for _, ref := range before.keys {
		dirty[ref] = g.owners[ref] == nil || g.owners[ref].ending != ""
	}
	maps.DeleteFunc(dirty, func(_ schema.Key, is bool) bool { return !is })
	return slices.Collect(maps.Keys(dirty))
}

// replaceLocked puts the references of an object in the place of those before.
func (g *graph) replaceLocked(key schema.Key, before, after refs, lookup func(schema.Key) schema.Object) {
	for _, ref := range before.keys {
		if !slices.Contains(after.keys, ref) {
			g.unrefLocked(ref, key)
		}
	}
	for _, ref := range after.keys {
		if g.owners[ref] == nil {
			g.owners[ref] = &owner{standing: standingOf(lookup(ref)), dependents: map[schema.Key]bool{}}
		}
		g.owners[ref].dependents[key] = true
	}
	if len(after.all) > 0 {
		g.refs[key] = after
	} else {
		delete(g.refs, key)
	}
}

func (g *graph) unrefLocked(ref, key schema.Key) {
	o := g.owners[ref]
	delete(o.dependents, key)
	if len(o.dependents) == 0 {
		delete(g.owners, ref)
	}
}

// dependents are the objects that refer to an owner by its name, sorted.
func (g *graph) dependents(key schema.Key) []schema.Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := g.owners[key]
	if o == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(o.dependents), schema.Key.Compare)
}

func standingOf(obj schema.Object) standing {
	if obj == nil {
		return standing{}
	}
	return standing{uid: obj.GetUID(), ending: endingOf(obj)}
}

// endingOf is the finalizer with which an object that is being deleted waits
// for what becomes of what it owns, or "".
func endingOf(obj schema.Object) string {
	if obj == nil || obj.GetDeletionTimestamp() == nil {
		return ""
	}
	for _, f := range []string{metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents} {
		if slices.Contains(obj.GetFinalizers(), f) {
			return f
		}
	}
	return ""
}

func refsOf(obj schema.Object) refs {
	if obj == nil || len(obj.GetOwnerReferences()) == 0 {
		return refs{}
	}
	out := refs{uid: obj.GetUID(), all: obj.GetOwnerReferences()}
	for _, ref := range out.all {
		if key, ok := ownerKey(obj, ref); ok && !slices.Contains(out.keys, key) {
			out.keys = append(out.keys, key)
		}
	}
	return out
}

// ownerKey is what a reference means; false for a kind that is not ours, and
// for a reference out of no namespace into one, which means nothing.
func ownerKey(obj schema.Object, ref metav1.OwnerReference) (schema.Key, bool) {
	kind, known := schema.KindFor(kschema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if !known || kind.Namespaced && obj.GetNamespace() == "" {
		return schema.Key{}, false
	}
	return kind.Key(obj.GetNamespace(), ref.Name), true
}
