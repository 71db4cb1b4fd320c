package garbage

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// heirs sees to what becomes of what an object owns when it goes. The rules
// are those of Kubernetes' garbage collector.
type heirs struct {
	Config
	graph *graph
}

func (h *heirs) run(ctx context.Context) error {
	loop := controller.Loop{
		Name: "owners", Mirror: h.Writer.Mirror, After: h.Writer.Registries.Term(),
		Kinds: slices.DeleteFunc(slices.Clone(schema.Kinds), func(k *schema.Kind) bool { return k == schema.Events }),
		Map:   h.dirty, Reconcile: h.reconcile, Workers: 4, Metrics: h.Metrics, Logger: h.Logger,
	}
	return loop.Run(ctx)
}

func (h *heirs) dirty(changed schema.Key) []schema.Key {
	return h.graph.set(changed, h.Writer.Mirror.Stored(changed), h.Writer.Mirror.Stored)
}

func (h *heirs) reconcile(ctx context.Context, key schema.Key) error {
	obj := h.Writer.Mirror.Stored(key)
	switch {
	case obj == nil:
		return nil
	case endingOf(obj) == metav1.FinalizerOrphanDependents:
		return h.orphan(ctx, key, obj)
	case endingOf(obj) == metav1.FinalizerDeleteDependents:
		return h.await(ctx, key, obj)
	case obj.GetDeletionTimestamp() == nil && len(obj.GetOwnerReferences()) > 0:
		return h.judge(ctx, key, obj)
	}
	return nil
}

// Ties are an object's owner references by what their owners are doing.
type Ties struct {
	Solid    []metav1.OwnerReference // the owner is there, or of a kind that is not ours
	Dangling []metav1.OwnerReference // it is gone
	Waiting  []metav1.OwnerReference // it is being deleted and waits for the object to go first
}

// tiesOf sorts the references, and returns guards of what makes them dangle.
func tiesOf(obj schema.Object, lookup func(schema.Key) schema.Object) (Ties, []*registry.Guard) {
	var t Ties
	var guards []*registry.Guard
	for _, ref := range obj.GetOwnerReferences() {
		key, ours := ownerKey(obj, ref)
		if !ours {
			t.Solid = append(t.Solid, ref)
			continue
		}
		switch o := lookup(key); {
		case o == nil:
			t.Dangling = append(t.Dangling, ref)
			guards = append(guards, &registry.Guard{Key: key.Path(), Mod: registry.Absent})
		case o.GetUID() != ref.UID:
			t.Dangling = append(t.Dangling, ref)
			guards = append(guards, controller.Unchanged(o))
		case endingOf(o) == metav1.FinalizerDeleteDependents:
			t.Waiting = append(t.Waiting, ref)
		default:
			t.Solid = append(t.Solid, ref)
		}
	}
	return t, guards
}

// judge deletes an object that no owner keeps, and takes the other owners
// from one that some owner keeps.
func (h *heirs) judge(ctx context.Context, key schema.Key, obj schema.Object) error {
	ties, guards := tiesOf(obj, h.Writer.Mirror.Stored)
	if len(ties.Dangling)+len(ties.Waiting) == 0 {
		return nil
	}
	w := registry.Write{Delete: &registry.Deletion{Key: key, UID: obj.GetUID()}}
	switch {
	case len(ties.Solid) > 0:
		kept := obj.DeepCopyObject().(schema.Object)
		kept.SetOwnerReferences(ties.Solid)
		w = registry.Write{Update: kept}
	case len(ties.Waiting) > 0 && len(h.graph.dependents(key)) > 0:
		w.Delete.Propagation = metav1.DeletePropagationForeground
	}
	writes := []registry.Write{w}
	for _, guard := range guards {
		nothing := registry.Write{Guard: guard}
		if writes[0].Guard == nil {
			writes[0].Guard = guard
			continue
		}
		writes = append(writes, nothing)
	}
	if _, err := h.Writer.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("end %s with its owners: %w", key, err)
	}
	return nil
}

// orphan takes an owner from all that it owns, and then lets it go.
func (h *heirs) orphan(ctx context.Context, key schema.Key, obj schema.Object) error {
	var writes []registry.Write
	for _, dependent := range h.owned(key, obj) {
		freed := dependent.DeepCopyObject().(schema.Object)
		freed.SetOwnerReferences(slices.DeleteFunc(freed.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == obj.GetUID() }))
		writes = append(writes, registry.Write{Update: freed})
	}
	if err := h.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("orphan what %s owns: %w", key, err)
	}
	return h.release(ctx, key, obj, metav1.FinalizerOrphanDependents)
}

// await lets an owner go when nothing that it owns holds it any more; the end
// of each of these comes as a change. What waits for the owner itself does not
// hold it: in a circle somebody has to go first.
func (h *heirs) await(ctx context.Context, key schema.Key, obj schema.Object) error {
	for _, dependent := range h.holding(key, obj) {
		if !h.waitsFor(dependent, obj.GetUID(), map[types.UID]bool{}) {
			return nil
		}
	}
	return h.release(ctx, key, obj, metav1.FinalizerDeleteDependents)
}

// holding are the objects that an owner which is ending has to wait for.
func (h *heirs) holding(key schema.Key, obj schema.Object) []schema.Object {
	return slices.DeleteFunc(h.owned(key, obj), func(dependent schema.Object) bool {
		return !slices.ContainsFunc(dependent.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == obj.GetUID() && blocks(r) })
	})
}

// waitsFor reports whether an object is ending and waits, itself or by those
// that it waits for, for another.
func (h *heirs) waitsFor(obj schema.Object, other types.UID, seen map[types.UID]bool) bool {
	if seen[obj.GetUID()] || endingOf(obj) != metav1.FinalizerDeleteDependents {
		return false
	}
	seen[obj.GetUID()] = true
	return slices.ContainsFunc(h.holding(schema.KeyOf(obj), obj), func(dependent schema.Object) bool {
		return dependent.GetUID() == other || h.waitsFor(dependent, other, seen)
	})
}

// owned are the objects that refer to this very owner.
func (h *heirs) owned(key schema.Key, obj schema.Object) []schema.Object {
	var out []schema.Object
	for _, k := range h.graph.dependents(key) {
		dependent := h.Writer.Mirror.Stored(k)
		if dependent != nil && slices.ContainsFunc(dependent.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == obj.GetUID() }) {
			out = append(out, dependent)
		}
	}
	return out
}

func (h *heirs) release(ctx context.Context, key schema.Key, obj schema.Object, finalizer string) error {
	freed := obj.DeepCopyObject().(schema.Object)
	freed.SetFinalizers(slices.DeleteFunc(freed.GetFinalizers(), func(f string) bool { return f == finalizer }))
	if _, err := h.Writer.Commit(ctx, registry.Write{Update: freed}); err != nil {
		return fmt.Errorf("release %s: %w", key, err)
	}
	return nil
}
