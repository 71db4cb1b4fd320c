package endpoints

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics and Workers
// are required.
type Config struct {
	Writer  controller.Writer
	Metrics *controller.Metrics
	Logger  *slog.Logger
	Workers int // default 8
}

// keeper keeps the endpoints of all services.
type keeper struct {
	Config
	index *index
	nodes *nodes
	slice map[schema.Key]schema.Key // slices to the services that they were last seen of
}

// Run keeps the endpoints until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	k := &keeper{Config: cfg, index: newIndex(), nodes: newNodes(cfg.Writer.Mirror), slice: map[schema.Key]schema.Key{}}
	loop := controller.Loop{
		Name: "endpoints", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Nodes, schema.Pods, schema.Services, schema.Endpoints, schema.EndpointSlices},
		Map:   k.dirty, Reconcile: k.reconcile, Workers: cfg.Workers, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the services whose endpoints a change alters.
func (k *keeper) dirty(changed schema.Key) []schema.Key {
	m := k.Writer.Mirror
	switch changed.Resource {
	case schema.Nodes.Resource:
		return k.dirtyByNode(changed.Name)
	case schema.Pods.Resource:
		pod, _ := m.Get(changed).(*corev1.Pod)
		return k.index.setPod(changed, pod)
	case schema.EndpointSlices.Resource:
		return k.dirtyBySlice(changed)
	}
	key := schema.Services.Key(changed.Namespace, changed.Name)
	if changed.Resource == schema.Services.Resource {
		var selector map[string]string
		if svc, ok := m.Get(key).(*corev1.Service); ok {
			selector = svc.Spec.Selector
		}
		k.index.setService(key, selector)
	}
	return []schema.Key{key}
}

// dirtyByNode is the services with pods on a node that can or cannot be reached
// any more; all of them, where that is a matter of doubt in general.
func (k *keeper) dirtyByNode(name string) []schema.Key {
	changed, doubtChanged := k.nodes.see(name)
	if doubtChanged {
		return k.index.all()
	}
	if !changed {
		return nil
	}
	var out []schema.Key
	for _, pod := range k.Writer.Mirror.PodsOn(name) {
		out = append(out, k.index.selecting(pod)...)
	}
	return out
}

// dirtyBySlice is the service that a slice is of, and the one that it was.
func (k *keeper) dirtyBySlice(changed schema.Key) []schema.Key {
	var out []schema.Key
	if before, known := k.slice[changed]; known {
		out = append(out, before)
		delete(k.slice, changed)
	}
	s, ok := k.Writer.Mirror.Get(changed).(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelServiceName] == "" {
		return out
	}
	svc := schema.Services.Key(s.Namespace, s.Labels[discoveryv1.LabelServiceName])
	k.slice[changed] = svc
	return append(out, svc)
}

func (k *keeper) reconcile(ctx context.Context, key schema.Key) error {
	m := k.Writer.Mirror
	in := Input{NodeReady: k.nodes.reachable}
	for _, sliceKey := range m.SlicesOf(key.Namespace, key.Name) {
		if s, ok := m.Get(sliceKey).(*discoveryv1.EndpointSlice); ok {
			in.Slices = append(in.Slices, s)
		}
	}
	in.Endpoints, _ = registry.GetOf[*corev1.Endpoints](m, schema.Endpoints, key.Namespace, key.Name)
	in.Taken = func(name string) bool { return m.Get(schema.EndpointSlices.Key(key.Namespace, name)) != nil }
	var out Output
	svc, exists := m.Get(key).(*corev1.Service)
	if exists {
		in.Service = svc
		for _, podKey := range k.index.selected(key.Namespace, svc.Spec.Selector) {
			if pod, ok := m.Get(podKey).(*corev1.Pod); ok {
				in.Pods = append(in.Pods, pod)
			}
		}
		out = Compute(in)
	}
	if err := k.Writer.CommitAll(ctx, differences(key, in, out)); err != nil {
		return fmt.Errorf("endpoints of %s: %w", key, err)
	}
	return nil
}

// differences are the writes from what is there to what should be. Slices come
// first: proxies read them.
func differences(svc schema.Key, in Input, out Output) []registry.Write {
	exists := &registry.Guard{Key: svc.Path(), Mod: registry.Present}
	var writes []registry.Write
	wanted := map[string]bool{}
	there := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range in.Slices {
		there[s.Name] = s
	}
	for _, s := range out.Slices {
		wanted[s.Name] = true
		before := there[s.Name]
		switch {
		case before == nil:
			writes = append(writes, registry.Write{Create: s, Guard: exists})
		case !equality.Semantic.DeepEqual(before, s):
			writes = append(writes, registry.Write{Update: s})
		}
	}
	for _, s := range in.Slices {
		manager := s.Labels[discoveryv1.LabelManagedBy]
		if !wanted[s.Name] && (manager == ManagedBy || manager == MirroredBy) {
			writes = append(writes, registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(s), UID: s.UID}})
		}
	}
	switch {
	case out.Endpoints != nil && in.Endpoints == nil:
		writes = append(writes, registry.Write{Create: out.Endpoints, Guard: exists})
	case out.Endpoints != nil && !equality.Semantic.DeepEqual(in.Endpoints, out.Endpoints):
		writes = append(writes, registry.Write{Update: out.Endpoints})
	case out.Endpoints == nil && in.Endpoints != nil && isOurs(in.Endpoints):
		writes = append(writes, registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(in.Endpoints), UID: in.Endpoints.UID}})
	}
	return writes
}
