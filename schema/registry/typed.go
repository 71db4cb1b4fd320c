package registry

import (
	"context"

	"github.com/evenkeel/evenkeel/schema"
)

// Registry is one kind of the Registries, with its Go type.
type Registry[T schema.Object] struct {
	all  *Registries
	kind *schema.Kind
}

// Of returns the registry of a kind; T is the pointer type that kind.New
// returns.
func Of[T schema.Object](all *Registries, kind *schema.Kind) Registry[T] {
	return Registry[T]{all: all, kind: kind}
}

// Create is Registries.Create.
func (r Registry[T]) Create(ctx context.Context, obj T) (T, error) {
	return typed[T](r.all.Create(ctx, obj))
}

// Get is Registries.Get.
func (r Registry[T]) Get(ctx context.Context, namespace, name string) (T, error) {
	return typed[T](r.all.Get(ctx, r.kind.Key(namespace, name)))
}

// List is Registries.List.
func (r Registry[T]) List(ctx context.Context, namespace string) ([]T, int64, error) {
	objs, revision, err := r.all.List(ctx, r.kind, namespace)
	out := make([]T, 0, len(objs))
	for _, obj := range objs {
		out = append(out, obj.(T))
	}
	return out, revision, err
}

// Update is Registries.Update.
func (r Registry[T]) Update(ctx context.Context, obj T) (T, error) {
	return typed[T](r.all.Update(ctx, obj))
}

// UpdateStatus is Registries.UpdateStatus.
func (r Registry[T]) UpdateStatus(ctx context.Context, obj T) (T, error) {
	return typed[T](r.all.UpdateStatus(ctx, obj))
}

// Mutate is Registries.Mutate.
func (r Registry[T]) Mutate(ctx context.Context, namespace, name string, change func(T) error) (T, error) {
	return typed[T](r.all.Mutate(ctx, r.kind.Key(namespace, name), func(obj schema.Object) error { return change(obj.(T)) }))
}

// Delete is Registries.Delete with the pod's own grace.
func (r Registry[T]) Delete(ctx context.Context, namespace, name string) error {
	_, err := r.all.Delete(ctx, Deletion{Key: r.kind.Key(namespace, name)})
	return err
}

// Watch is Registries.Watch.
func (r Registry[T]) Watch(ctx context.Context, namespace string, from int64, emit func(Event[T]) error) error {
	return r.all.Watch(ctx, r.kind, namespace, from, func(e Event[schema.Object]) error {
		before, _ := e.Before.(T)
		return emit(Event[T]{Type: e.Type, Object: e.Object.(T), Before: before, Revision: e.Revision})
	})
}

func typed[T schema.Object](obj schema.Object, err error) (T, error) {
	t, _ := obj.(T)
	return t, err
}
