package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/scheduler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// cluster is a store with a mirror and a scheduler on it.
type cluster struct {
	t      *testing.T
	store  *interposed
	all    *registry.Registries
	mirror *registry.Mirror

	mu     sync.Mutex
	events []string
}

func (c *cluster) Event(about schema.Object, _, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf("%s %s: %s", about.GetName(), reason, message))
}

func (c *cluster) takeEvents() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.events
	c.events = nil
	return out
}

// interposed is a memory store that lets a test act just before commits, and
// have them fail.
type interposed struct {
	*memory.Store
	mu     sync.Mutex
	before func(registry.Txn) error
}

func (s *interposed) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(txn); err != nil {
			return 0, err
		}
	}
	return s.Store.Commit(ctx, txn)
}

func (s *interposed) set(before func(registry.Txn) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// inCluster runs a test in a bubble with a running scheduler.
func inCluster(t *testing.T, test func(*cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, store: &interposed{Store: memory.New()}}
		c.all = registry.New(c.store, registry.Config{})
		c.mirror = registry.NewMirror(registry.MirrorConfig{Store: c.store})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.mirror.Run(ctx) })
		wg.Go(func() {
			err := scheduler.Run(ctx, scheduler.Config{Mirror: c.mirror, Registries: c.all, Recorder: c, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
			}
		})
		c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		test(c)
		cancel()
		wg.Wait()
	})
}

func (c *cluster) create(obj schema.Object) schema.Object {
	c.t.Helper()
	created, err := c.all.Create(c.t.Context(), obj)
	if err != nil {
		c.t.Fatal(err)
	}
	return created
}

func (c *cluster) node(name, cpu string) {
	c.t.Helper()
	c.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	status := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	status.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	status.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	data, err := schema.Encode(status)
	if err != nil {
		c.t.Fatal(err)
	}
	txn := registry.Txn{Ops: []registry.Op{registry.Put(schema.NodeStatusPrefix+name, data), registry.Put(schema.NodeLeasePrefix+name, nil)}}
	if _, err := c.store.Commit(c.t.Context(), txn); err != nil {
		c.t.Fatal(err)
	}
}

func pod(name, cpu string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
	return p
}

// placed says where the pods are: name → node.
func (c *cluster) placed() map[string]string {
	synctest.Wait()
	objs, _, err := c.all.List(c.t.Context(), schema.Pods, "")
	if err != nil {
		c.t.Fatal(err)
	}
	out := map[string]string{}
	for _, obj := range objs {
		out[obj.GetName()] = obj.(*corev1.Pod).Spec.NodeName
	}
	return out
}

func (c *cluster) want(want map[string]string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.placed()); diff != "" {
		c.t.Errorf("pods (-want +got):\n%s", diff)
	}
}

func TestBindsAtOnce(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "4")
		began := time.Now()
		c.create(pod("a", "1"))
		c.want(map[string]string{"a": "n1"})
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %v before binding", took)
		}
		if diff := cmp.Diff([]string{"a Scheduled: Successfully assigned default/a to n1"}, c.takeEvents()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestUnschedulable says why once, and places the pod when room appears: by a
// pod's end, and by a new node.
func TestUnschedulable(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "1")
		first := c.create(pod("a", "1"))
		synctest.Wait()
		c.create(pod("b", "1"))
		c.create(pod("c", "2"))
		c.want(map[string]string{"a": "n1", "b": "", "c": ""})
		waiting, err := c.all.Get(t.Context(), schema.Pods.Key("default", "b"))
		if err != nil {
			t.Fatal(err)
		}
		conditions := waiting.(*corev1.Pod).Status.Conditions
		if len(conditions) != 1 || conditions[0].Reason != "Unschedulable" || conditions[0].Message != "0/1 nodes are available: 1 Insufficient cpu." {
			t.Errorf("conditions %+v", conditions)
		}
		if got := c.takeEvents(); len(got) != 3 || !strings.Contains(strings.Join(got, "\n"), "b FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.") {
			t.Errorf("events %q", got)
		}
		if _, err := c.all.Delete(t.Context(), registry.Deletion{Key: schema.KeyOf(first), GraceSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		c.want(map[string]string{"b": "n1", "c": ""})
		c.node("n2", "4")
		c.want(map[string]string{"b": "n1", "c": "n2"})
		if got := c.takeEvents(); len(got) > 4 {
			t.Errorf("events repeated: %q", got)
		}
	})
}

// TestConflictHurtsOnlyItsPod changes one pod of a batch behind the
// scheduler's back.
func TestConflictHurtsOnlyItsPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		want := map[string]string{}
		for i := range 20 {
			name := fmt.Sprint("p", i)
			c.create(pod(name, "1m"))
			want[name] = "n1"
		}
		synctest.Wait()
		var once sync.Once
		c.store.set(func(txn registry.Txn) error {
			if len(txn.Ops) > 10 {
				once.Do(func() {
					kv, _ := c.store.Get(t.Context(), "/registry/pods/default/p7")
					_, _ = c.store.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(kv.Key, kv.Value)}})
				})
			}
			return nil
		})
		c.node("n1", "8")
		c.want(want)
	})
}

// TestNodeGoneWhileBinding deletes the node before the bindings to it arrive.
func TestNodeGoneWhileBinding(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "8")
		synctest.Wait()
		var once sync.Once
		c.store.set(func(txn registry.Txn) error {
			if strings.HasPrefix(txn.Ops[len(txn.Ops)-1].Key, schema.BindingsPrefix) {
				once.Do(func() {
					_, _ = c.store.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Delete("/registry/nodes/n1")}})
				})
			}
			return nil
		})
		c.create(pod("a", "1"))
		c.want(map[string]string{"a": ""})
		c.node("n2", "8")
		c.want(map[string]string{"a": "n2"})
	})
}

// TestRoomOfRefusedPod deletes a pod while it is being bound: the room that was
// meant for it goes to one that had been refused it.
func TestRoomOfRefusedPod(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.create(pod("a", "1"))
		c.create(pod("b", "1"))
		synctest.Wait()
		var once sync.Once
		c.store.set(func(txn registry.Txn) error {
			if strings.HasPrefix(txn.Ops[len(txn.Ops)-1].Key, schema.BindingsPrefix) {
				once.Do(func() {
					_, _ = c.store.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Delete("/registry/pods/default/a")}})
				})
			}
			return nil
		})
		c.node("n1", "1")
		c.want(map[string]string{"b": "n1"})
	})
}

// TestUnsureCommit has a transaction happen and its answer get lost: the pod
// stays where it was bound, and its room is taken once.
func TestUnsureCommit(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "1")
		synctest.Wait()
		lost := 0
		c.store.set(func(txn registry.Txn) error {
			if lost == 0 && strings.HasPrefix(txn.Ops[len(txn.Ops)-1].Key, schema.BindingsPrefix) {
				lost++
				if _, err := c.store.Store.Commit(t.Context(), txn); err != nil {
					t.Error(err)
				}
				return registry.ErrUnavailable
			}
			return nil
		})
		c.create(pod("a", "1"))
		<-time.After(time.Second)
		c.create(pod("b", "1"))
		c.want(map[string]string{"a": "n1", "b": ""})
		if lost != 1 {
			t.Error("the fault was not met")
		}
	})
}

func TestFencedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		all := registry.New(store, registry.Config{})
		mirror := registry.NewMirror(registry.MirrorConfig{Store: store})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = mirror.Run(ctx) })
		c := &cluster{t: t, store: &interposed{Store: store}, all: all}
		c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		c.node("n1", "1")
		c.create(pod("a", "1"))
		err := scheduler.Run(ctx, scheduler.Config{
			Mirror: mirror, Registries: all.Fenced(registry.Guard{Key: schema.ElectionPrefix + "x", Mod: 1}), Recorder: c, Logger: slog.New(slog.DiscardHandler),
		})
		if !errors.Is(err, registry.ErrFenced) {
			t.Errorf("ended with %v", err)
		}
		cancel()
		wg.Wait()
	})
}
