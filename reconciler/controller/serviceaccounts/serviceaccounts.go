// Package serviceaccounts gives every namespace what Kubernetes gives it: the
// service account "default", and the config map "kube-root-ca.crt" by which
// pods know the API.
//
// The control plane's leader runs it where the API is served. It makes nothing
// in a namespace that is being deleted, and leaves an account that is there as
// it is; the config map's content is its own.
package serviceaccounts

import (
	"context"
	"fmt"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer  controller.Writer
	RootCA  func() []byte // certificates of the API's authority, PEM; read at each look at a namespace
	Metrics *controller.Metrics
	Logger  *slog.Logger
}

type giver struct{ Config }

// Run works until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	g := giver{cfg}
	loop := controller.Loop{
		Name: "serviceaccounts", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Namespaces, schema.ServiceAccounts, schema.ConfigMaps},
		Map:   dirty, Reconcile: g.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty is the namespace whose account or config map changed.
func dirty(changed schema.Key) []schema.Key {
	namespace := schema.Namespaces.Key("", changed.Namespace)
	switch {
	case changed.Resource == schema.Namespaces.Resource:
		return []schema.Key{changed}
	case changed == accountOf(changed.Namespace), changed == rootCAOf(changed.Namespace):
		return []schema.Key{namespace}
	}
	return nil
}

func accountOf(namespace string) schema.Key {
	return schema.ServiceAccounts.Key(namespace, registry.DefaultAccount)
}

func rootCAOf(namespace string) schema.Key {
	return schema.ConfigMaps.Key(namespace, registry.RootCAName)
}

func (g giver) reconcile(ctx context.Context, key schema.Key) error {
	m := g.Writer.Mirror
	if ns := m.Get(key); ns == nil || ns.GetDeletionTimestamp() != nil {
		return nil
	}
	var writes []registry.Write
	if m.Get(accountOf(key.Name)) == nil {
		writes = append(writes, registry.Write{Create: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: registry.DefaultAccount}}})
	}
	want := map[string]string{"ca.crt": string(g.RootCA())}
	have, _ := m.Get(rootCAOf(key.Name)).(*corev1.ConfigMap)
	switch {
	case have == nil:
		meta := metav1.ObjectMeta{Namespace: key.Name, Name: registry.RootCAName}
		meta.Annotations = map[string]string{"kubernetes.io/description": "Contains the certificates by which pods know the API server."}
		writes = append(writes, registry.Write{Create: &corev1.ConfigMap{ObjectMeta: meta, Data: want}})
	case !maps.Equal(have.Data, want) && have.DeletionTimestamp == nil:
		changed := have.DeepCopy()
		changed.Data, changed.BinaryData = want, nil
		writes = append(writes, registry.Write{Update: changed})
	}
	if len(writes) == 0 {
		return nil
	}
	if _, err := g.Writer.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("furnish %s: %w", key, err)
	}
	return nil
}
