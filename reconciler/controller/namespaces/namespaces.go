// Package namespaces makes the namespaces that every cluster has, and empties
// and removes those that are being deleted.
//
// The control plane's leader runs it. It also removes what was created in a
// namespace in the moment of its end; it never touches anything in a namespace
// that stays.
package namespaces

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Always are the namespaces that are made again when they are missing.
var Always = []string{metav1.NamespaceDefault, metav1.NamespaceSystem}

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer  controller.Writer
	Metrics *controller.Metrics
	Logger  *slog.Logger
}

type keeper struct{ Config }

// Run keeps the namespaces until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	k := keeper{cfg}
	loop := controller.Loop{
		Name: "namespaces", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: schema.Kinds, Map: k.dirty, Reconcile: k.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	for _, name := range Always {
		loop.First = append(loop.First, schema.Namespaces.Key("", name))
	}
	return loop.Run(ctx)
}

// dirty is the namespace of what changed, unless it is one that stays.
func (k keeper) dirty(changed schema.Key) []schema.Key {
	if changed.Resource == schema.Namespaces.Resource {
		return []schema.Key{changed}
	}
	key := schema.Namespaces.Key("", changed.Namespace)
	if changed.Namespace == "" || changed.Resource == schema.Events.Resource {
		return nil
	}
	if ns := k.Writer.Mirror.Get(key); ns != nil && ns.GetDeletionTimestamp() == nil {
		return nil
	}
	return []schema.Key{key}
}

func (k keeper) reconcile(ctx context.Context, key schema.Key) error {
	ns, exists := k.Writer.Mirror.Get(key).(*corev1.Namespace)
	if exists && ns.DeletionTimestamp == nil {
		return nil
	}
	left, err := k.empty(ctx, key, exists)
	switch {
	case err != nil:
		return fmt.Errorf("empty %s: %w", key, err)
	case exists && left > 0:
		return nil // the end of what is left comes as a change
	case exists:
		_, err = k.Writer.Commit(ctx, registry.Write{Delete: &registry.Deletion{Key: key, UID: ns.UID, Finalize: true}})
	case slices.Contains(Always, key.Name):
		_, err = k.Writer.Commit(ctx, registry.Write{Create: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: key.Name}}})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// empty deletes what is in a namespace, what makes other things first, and
// returns how much is still there. Events are not counted: they end by
// themselves, and are left to do so where there is no namespace.
func (k keeper) empty(ctx context.Context, ns schema.Key, exists bool) (left int, err error) {
	var writes []registry.Write
	for _, kind := range slices.Backward(schema.Kinds) {
		if !kind.Namespaced || kind == schema.Events && !exists {
			continue
		}
		for _, obj := range k.Writer.Mirror.List(kind, ns.Name) {
			if kind != schema.Events {
				left++
			}
			if obj.GetDeletionTimestamp() != nil {
				continue
			}
			d := &registry.Deletion{Key: schema.KeyOf(obj), UID: obj.GetUID()}
			guard := &registry.Guard{Key: ns.Path(), Mod: registry.Absent}
			if exists {
				guard.Mod = registry.Present
			}
			writes = append(writes, registry.Write{Delete: d, Guard: guard})
		}
	}
	if err := k.Writer.CommitAll(ctx, writes); err != nil {
		return left, err
	}
	return left, nil
}
