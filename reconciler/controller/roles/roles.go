// Package roles makes the cluster roles that every cluster has, and gathers
// the rules of those that are made of others (Kubernetes: "Aggregated
// ClusterRoles").
//
// The control plane's leader runs it. What somebody changed in a role of the
// beginning stays; at the start of a term it is given back only what it lacks,
// unless a source declares it or its annotation says not to.
package roles

import (
	"context"
	"fmt"
	"log/slog"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics, Roles and
// Bindings are required.
type Config struct {
	Writer   controller.Writer
	Roles    []*rbacv1.ClusterRole        // of every cluster
	Bindings []*rbacv1.ClusterRoleBinding // of every cluster
	Metrics  *controller.Metrics
	Logger   *slog.Logger
}

type keeper struct{ Config }

// beginning stands for all of Roles and Bindings.
var beginning = schema.Key{Resource: "beginning"}

// Run keeps the roles until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	k := keeper{cfg}
	loop := controller.Loop{
		Name: "roles", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(), First: []schema.Key{beginning},
		Kinds: []*schema.Kind{schema.ClusterRoles}, Map: k.dirty, Reconcile: k.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty is every role that is made of others: there are few.
func (k keeper) dirty(schema.Key) []schema.Key {
	var out []schema.Key
	for _, role := range k.all() {
		if role.AggregationRule != nil {
			out = append(out, schema.KeyOf(role))
		}
	}
	return out
}

func (k keeper) all() []*rbacv1.ClusterRole {
	return registry.ListOf[*rbacv1.ClusterRole](k.Writer.Mirror, schema.ClusterRoles, "")
}

func (k keeper) reconcile(ctx context.Context, key schema.Key) error {
	if key == beginning {
		if err := k.Writer.CommitAll(ctx, k.missing()); err != nil {
			return fmt.Errorf("roles of every cluster: %w", err)
		}
		return nil
	}
	role, ok := k.Writer.Mirror.Get(key).(*rbacv1.ClusterRole)
	if !ok || role.AggregationRule == nil {
		return nil
	}
	rules := Gather(role, k.all())
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return nil
	}
	changed := *role
	changed.Rules = rules
	if _, err := k.Writer.Commit(ctx, registry.Write{Update: &changed}); err != nil {
		return fmt.Errorf("gather %s: %w", key, err)
	}
	return nil
}

// missing are the writes that make what every cluster has out of what is there.
func (k keeper) missing() []registry.Write {
	var writes []registry.Write
	for _, want := range k.Roles {
		have, exists := k.Writer.Mirror.Get(schema.KeyOf(want)).(*rbacv1.ClusterRole)
		if !exists {
			made := want.DeepCopy()
			if made.AggregationRule != nil {
				made.Rules = Gather(want, k.Roles)
			}
			writes = append(writes, registry.Write{Create: made})
		} else if changed := complete(have, want); changed != nil {
			writes = append(writes, registry.Write{Update: changed})
		}
	}
	for _, want := range k.Bindings {
		have, exists := k.Writer.Mirror.Get(schema.KeyOf(want)).(*rbacv1.ClusterRoleBinding)
		if !exists {
			writes = append(writes, registry.Write{Create: want})
		} else if changed := completeBinding(have, want); changed != nil {
			writes = append(writes, registry.Write{Update: changed})
		}
	}
	return writes
}
