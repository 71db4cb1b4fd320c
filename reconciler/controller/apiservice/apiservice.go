// Package apiservice keeps the service `kubernetes` in the namespace default,
// by which pods find the API, and its endpoints: the API servers that live.
//
// Every API server says where it listens under schema.APIServersPrefix, on an
// etcd lease. The control plane's leader runs the controller; it starts no
// server and reaches none.
package apiservice

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Name is that of the service, its endpoints and their slice.
const Name = "kubernetes"

// Key is that of the service.
var Key = schema.Services.Key(metav1.NamespaceDefault, Name)

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer  controller.Writer
	IP      netip.Addr // of the service
	Metrics *controller.Metrics
	Logger  *slog.Logger
}

type keeper struct{ Config }

// Run keeps the service until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	k := keeper{cfg}
	loop := controller.Loop{
		Name: "apiservice", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(), First: []schema.Key{Key},
		Kinds: []*schema.Kind{schema.Namespaces, schema.Services, schema.Endpoints, schema.EndpointSlices}, Raw: schema.APIServersPrefix,
		Map: dirty, Reconcile: k.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

func dirty(changed schema.Key) []schema.Key {
	switch {
	case changed.Resource == "",
		changed.Resource == schema.Namespaces.Resource && changed.Name == metav1.NamespaceDefault,
		changed.Namespace == metav1.NamespaceDefault && changed.Name == Name:
		return []schema.Key{Key}
	}
	return nil
}

func (k keeper) reconcile(ctx context.Context, key schema.Key) error {
	m := k.Writer.Mirror
	ns := m.Get(schema.Namespaces.Key("", metav1.NamespaceDefault))
	if ns == nil || ns.GetDeletionTimestamp() != nil {
		return nil // comes back as a change
	}
	var servers []Server
	for _, kv := range m.Raw(schema.APIServersPrefix) {
		server, err := ParseServer(kv)
		if err != nil {
			k.Logger.Warn("unreadable API server", "key", kv.Key, "error", err)
			continue
		}
		servers = append(servers, server)
	}
	want := Compute(k.IP, servers)
	if svc, ok := m.Get(key).(*corev1.Service); ok && svc.Spec.ClusterIP != want.Service.Spec.ClusterIP {
		return k.commit(ctx, registry.Write{Delete: &registry.Deletion{Key: key, UID: svc.UID}}) // its address cannot be changed
	}
	var writes []registry.Write
	for _, obj := range []schema.Object{want.Service, want.Endpoints, want.Slice} {
		if w, differs := difference(m.Get(schema.KeyOf(obj)), obj); differs {
			writes = append(writes, w)
		}
	}
	return k.commit(ctx, writes...)
}

func (k keeper) commit(ctx context.Context, writes ...registry.Write) error {
	if len(writes) == 0 {
		return nil
	}
	if _, err := k.Writer.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("%s: %w", Key, err)
	}
	return nil
}

// difference is the write that makes the object that is there as it should be:
// what others added to it stays.
func difference(have, want schema.Object) (registry.Write, bool) {
	if have == nil {
		return registry.Write{Create: want}, true
	}
	changed := have.DeepCopyObject().(schema.Object)
	labels := changed.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for name, value := range want.GetLabels() {
		labels[name] = value
	}
	changed.SetLabels(labels)
	switch c := changed.(type) {
	case *corev1.Service:
		w := want.(*corev1.Service)
		c.Spec.Ports, c.Spec.Type, c.Spec.Selector = w.Spec.Ports, w.Spec.Type, nil
	case *corev1.Endpoints:
		c.Subsets = want.(*corev1.Endpoints).Subsets
	case *discoveryv1.EndpointSlice:
		w := want.(*discoveryv1.EndpointSlice)
		c.Endpoints, c.Ports = w.Endpoints, w.Ports
	}
	return registry.Write{Update: changed}, !equality.Semantic.DeepEqual(have, changed)
}
