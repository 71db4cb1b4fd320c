package manager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/manager"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// cluster is a real etcd with leaders on it.
type cluster struct {
	t      testing.TB
	ctx    context.Context
	store  registry.Store
	all    *registry.Registries
	mirror *registry.Mirror // the test's own view
	wg     sync.WaitGroup
}

func newCluster(t testing.TB) *cluster {
	dir, err := os.MkdirTemp("/tmp", "ek")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	srv, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c := &cluster{t: t, ctx: ctx, store: etcd.NewStore(srv.Client())}
	c.all = registry.New(c.store, registry.Config{Validator: validation.Rules{}})
	c.mirror = registry.NewMirror(registry.MirrorConfig{Store: c.store})
	c.wg.Go(func() { _ = c.mirror.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		c.wg.Wait()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// lead stands for the leader's role until the context ends.
func (c *cluster) lead(ctx context.Context, id string) <-chan struct{} {
	ended := make(chan struct{})
	logger := slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("leader", id)
	mirror := registry.NewMirror(registry.MirrorConfig{Store: c.store, Logger: logger})
	recorder := registry.NewRecorder(registry.RecorderConfig{Store: c.store, Component: "reconcile", Logger: logger})
	var parts sync.WaitGroup
	parts.Go(func() { _ = mirror.Run(ctx) })
	parts.Go(func() { _ = recorder.Run(ctx) })
	parts.Go(func() {
		reg := prometheus.NewRegistry()
		err := registry.Lead(ctx, registry.ElectionConfig{Store: c.store, Role: "reconcile", ID: id, Logger: logger}, func(ctx context.Context, fence registry.Guard) error {
			c.t.Logf("%s leads", id)
			return manager.Run(ctx, manager.Config{PodCIDR: netip.MustParsePrefix("10.128.0.0/12"), Registries: c.all.Fenced(fence), Mirror: mirror, Recorder: recorder, Logger: logger, Registerer: reg, EvictAfter: time.Second})
		})
		if err != nil && !errors.Is(err, registry.ErrFenced) {
			c.t.Errorf("leader %s: %v", id, err)
		}
	})
	c.wg.Go(func() {
		parts.Wait()
		close(ended)
	})
	return ended
}

func nodeStatus(name string) *corev1.Node {
	status := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	status.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	status.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return status
}

// agent reports a node and, for every pod bound to it, that it runs; a pod
// that is told to end has stopped.
func (c *cluster) agent(name string) {
	c.put(schema.NodeStatusPrefix+name, nodeStatus(name))
	c.put(schema.NodeLeasePrefix+name, nil)
	c.wg.Go(func() {
		number := 0
		_ = c.store.Watch(c.ctx, schema.BindingPrefix(name)+"pods/", 1, func(b registry.Batch) error {
			for _, change := range b.Changes {
				if change.Deleted {
					continue
				}
				obj, err := schema.Decode(change.Value)
				if err != nil {
					return err
				}
				number++
				pod := obj.(*corev1.Pod)
				report := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
				report.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.244.%s.%d", name[1:], number%250+1)}
				report.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				if pod.DeletionTimestamp != nil {
					report.Annotations = map[string]string{schema.StoppedAnnotation: string(pod.UID)}
				}
				c.put(schema.PodStatusPath(name, pod.Namespace, pod.Name), report)
			}
			return nil
		})
	})
}

func (c *cluster) put(key string, obj schema.Object) {
	var data []byte
	if obj != nil {
		var err error
		if data, err = schema.Encode(obj); err != nil {
			c.t.Error(err)
		}
	}
	if _, err := c.store.Commit(c.ctx, registry.Txn{Ops: []registry.Op{registry.Put(key, data)}}); err != nil && c.ctx.Err() == nil {
		c.t.Error(err)
	}
}

func (c *cluster) create(obj schema.Object) {
	c.t.Helper()
	if _, err := c.all.Create(c.ctx, obj); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) scale(replicas int32) {
	c.t.Helper()
	_, err := c.all.Mutate(c.ctx, schema.ReplicationControllers.Key("default", "web"), func(obj schema.Object) error {
		obj.(*corev1.ReplicationController).Spec.Replicas = &replicas
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// until waits until the mirror shows what is wanted.
func (c *cluster) until(what string, holds func() (bool, string)) time.Duration {
	c.t.Helper()
	sub := c.mirror.Subscribe(schema.Kinds...)
	defer sub.Close()
	began := time.Now()
	limit, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	for {
		ok, state := holds()
		if ok {
			c.t.Logf("%s after %v", what, time.Since(began).Round(time.Millisecond))
			return time.Since(began)
		}
		if sub.Next(limit) == nil {
			c.t.Fatalf("%s: not within 30 s: %s", what, state)
		}
	}
}

// atRest waits until nothing happens any more, and fails if something but
// events is written for ever.
func (c *cluster) atRest() {
	c.t.Helper()
	kinds := schema.Kinds[:len(schema.Kinds)-1] // events are the last
	sub := c.mirror.Subscribe(kinds...)
	defer sub.Close()
	raw := c.mirror.SubscribeRaw(schema.Root)
	defer raw.Close()
	sub.Take()
	raw.Take()
	var wrote []schema.Key
	for range 30 {
		<-time.After(time.Second)
		if wrote = append(sub.Take(), raw.Take()...); len(wrote) == 0 {
			return
		}
	}
	c.t.Errorf("written while nothing happens: %v", wrote)
}

// serving is how many pods the service's slices have ready, on how many nodes.
func (c *cluster) serving(want, wantNodes int) func() (bool, string) {
	return func() (bool, string) {
		ready, nodes := 0, map[string]bool{}
		for _, s := range registry.ListOf[*discoveryv1.EndpointSlice](c.mirror, schema.EndpointSlices, "default") {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready {
					ready++
					nodes[*e.NodeName] = true
				}
			}
		}
		rc, ok := registry.GetOf[*corev1.ReplicationController](c.mirror, schema.ReplicationControllers, "default", "web")
		if !ok {
			return false, "no replication controller"
		}
		pods := len(c.mirror.List(schema.Pods, "default"))
		state := fmt.Sprintf("%d ready endpoints on %d nodes, %d pods, status %+v", ready, len(nodes), pods, rc.Status)
		return ready == want && (wantNodes == anyNodes || len(nodes) == wantNodes) && pods == want && int(rc.Status.ReadyReplicas) == want, state
	}
}

// anyNodes is where the pods that a scale-down leaves may be.
const anyNodes = -1

// nodesReady holds when so many nodes take pods: before, pods go to the first.
func (c *cluster) nodesReady(want int) func() (bool, string) {
	return func() (bool, string) {
		ready := 0
		for _, n := range registry.ListOf[*corev1.Node](c.mirror, schema.Nodes, "") {
			for _, condition := range n.Status.Conditions {
				if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		return ready == want, fmt.Sprintf("%d nodes", ready)
	}
}

// TestTogether takes a replication controller and a service from nothing to
// ready endpoints, up and down, through a change of leaders and the death of a
// node, on a real etcd and with Kubernetes' own validation.
func TestTogether(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("cluster", func(t *testing.T) {
		c := newCluster(t)
		first, resign := context.WithCancel(c.ctx)
		defer resign()
		ended := c.lead(first, "a")
		c.until("namespace made", func() (bool, string) { return c.mirror.Get(schema.Namespaces.Key("", "default")) != nil, "none" })
		for i := range 3 {
			c.agent(fmt.Sprint("n", i))
		}
		c.until("3 nodes ready", c.nodesReady(3))
		labels := map[string]string{"app": "web"}
		replicas := int32(30)
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
		rc.Spec.Replicas, rc.Spec.Selector = &replicas, labels
		rc.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1"}}}}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80}}}}
		c.create(svc)
		c.create(rc)
		c.until("30 pods ready", c.serving(30, 3))
		c.atRest()
		c.scale(5)
		c.until("5 pods left", c.serving(5, anyNodes))
		c.lead(c.ctx, "b")
		resign()
		<-ended
		c.scale(60)
		c.until("60 pods under the next leader", c.serving(60, 3))
		if _, err := c.store.Commit(c.ctx, registry.Txn{Ops: []registry.Op{registry.Delete(schema.NodeLeasePrefix + "n1")}}); err != nil {
			t.Fatal(err)
		}
		c.until("60 pods on the nodes left", c.serving(60, 2))
	})
}
