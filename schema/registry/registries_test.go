package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

func newRegistries(t *testing.T) *registry.Registries {
	t.Helper()
	r := registry.New(memory.New(), registry.Config{})
	if _, err := r.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestCreate(t *testing.T) {
	r := newRegistries(t)
	got := must[schema.Object](t)(r.Create(t.Context(), pod("a", "")))
	if got.GetUID() == "" || got.GetGeneration() != 1 || got.GetResourceVersion() == "" || got.GetCreationTimestamp() == (metav1.Time{}) {
		t.Errorf("metadata not filled in: %+v", got)
	}
	read := must[schema.Object](t)(r.Get(t.Context(), schema.KeyOf(got)))
	if diff := cmp.Diff(got, read); diff != "" {
		t.Errorf("created and read (-created +read):\n%s", diff)
	}
	if _, err := r.Create(t.Context(), pod("a", "")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("twice: %v", err)
	}
	stray := pod("b", "")
	stray.Namespace = "nowhere"
	if _, err := r.Create(t.Context(), stray); !apierrors.IsNotFound(err) {
		t.Errorf("in a missing namespace: %v", err)
	}
}

func TestUpdate(t *testing.T) {
	r := newRegistries(t)
	rcs := registry.Of[*corev1.ReplicationController](r, schema.ReplicationControllers)
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	created := must[*corev1.ReplicationController](t)(rcs.Create(t.Context(), rc))

	changed := created.DeepCopy()
	n := int32(3)
	changed.Spec.Replicas = &n
	changed.Status.Replicas = 7
	updated := must[*corev1.ReplicationController](t)(rcs.Update(t.Context(), changed))
	if updated.Generation != 2 || updated.Status.Replicas != 0 {
		t.Errorf("generation %d, status %+v", updated.Generation, updated.Status)
	}
	if _, err := rcs.Update(t.Context(), changed); !apierrors.IsConflict(err) {
		t.Errorf("at an old version: %v", err)
	}
	again := must[*corev1.ReplicationController](t)(rcs.Update(t.Context(), updated))
	if again.ResourceVersion != updated.ResourceVersion {
		t.Errorf("a write that changes nothing wrote %s after %s", again.ResourceVersion, updated.ResourceVersion)
	}
	updated.Status.Replicas = 2
	status := must[*corev1.ReplicationController](t)(rcs.UpdateStatus(t.Context(), updated))
	if status.Generation != 2 || status.Status.Replicas != 2 {
		t.Errorf("after a status update: %+v", status)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	r := newRegistries(t)
	must[schema.Object](t)(r.Create(t.Context(), pod("b", "")))
	_, _, err := r.Commit(t.Context(), []registry.Write{{Create: pod("a", "")}, {Create: pod("b", "")}})
	if !apierrors.IsAlreadyExists(err) {
		t.Fatalf("commit: %v", err)
	}
	if _, err := r.Get(t.Context(), schema.Pods.Key("default", "a")); !apierrors.IsNotFound(err) {
		t.Errorf("half a batch was written: %v", err)
	}
}

func TestFence(t *testing.T) {
	r := newRegistries(t)
	fenced := r.Fenced(registry.Guard{Key: "/registry/election/x", Mod: 7})
	if _, err := fenced.Create(t.Context(), pod("a", "")); !errors.Is(err, registry.ErrFenced) {
		t.Errorf("create by an old leader: %v", err)
	}
}

func TestPodIsJoinedWithItsStatus(t *testing.T) {
	r := newRegistries(t)
	created := must[schema.Object](t)(r.Create(t.Context(), pod("a", "n1"))).(*corev1.Pod)
	if _, err := r.Store().Get(t.Context(), "/registry/bindings/n1/pods/default/a"); err != nil {
		t.Errorf("binding: %v", err)
	}
	report := func(uid, phase string) {
		status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Status: corev1.PodStatus{Phase: corev1.PodPhase(phase)}}
		status.UID = created.UID
		if uid != "" {
			status.UID = "other"
		}
		data := must[[]byte](t)(schema.Encode(status))
		op := registry.Put(schema.PodStatusPath("n1", "default", "a"), data)
		if _, err := r.Store().Commit(t.Context(), registry.Txn{Ops: []registry.Op{op}}); err != nil {
			t.Fatal(err)
		}
	}
	pods := registry.Of[*corev1.Pod](r, schema.Pods)
	report("", "Running")
	got := must[*corev1.Pod](t)(pods.Get(t.Context(), "default", "a"))
	if got.Status.Phase != corev1.PodRunning || got.ResourceVersion == created.ResourceVersion {
		t.Errorf("joined: phase %s at %s", got.Status.Phase, got.ResourceVersion)
	}
	report("other", "Failed")
	got = must[*corev1.Pod](t)(pods.Get(t.Context(), "default", "a"))
	if got.Status.Phase != corev1.PodPending || got.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("took the status of another pod: %s, %s", got.Status.Phase, got.Status.QOSClass)
	}
}

func TestPodDeletion(t *testing.T) {
	r := newRegistries(t)
	pods := registry.Of[*corev1.Pod](r, schema.Pods)
	for _, c := range []struct {
		name, node string
		grace      *int64
		gone       bool
	}{
		{"unbound", "", nil, true},
		{"bound", "n1", nil, false},
		{"forced", "n1", new(int64), true},
	} {
		must[schema.Object](t)(r.Create(t.Context(), pod(c.name, c.node)))
		if _, err := r.Delete(t.Context(), registry.Deletion{Key: schema.Pods.Key("default", c.name), GraceSeconds: c.grace}); err != nil {
			t.Fatal(err)
		}
		got, err := pods.Get(t.Context(), "default", c.name)
		if c.gone != apierrors.IsNotFound(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.gone && (got.DeletionTimestamp == nil || *got.DeletionGracePeriodSeconds != 30) {
			t.Errorf("%s: not marked: %+v", c.name, got.ObjectMeta)
		}
	}
	kvs, _, _ := r.Store().List(t.Context(), "/registry/bindings/", 0)
	if len(kvs) != 1 {
		t.Errorf("bindings left: %d, want the one of the pod that ends gracefully", len(kvs))
	}
}

func service(name, ip string, nodePort int32) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	svc.Spec.Type = corev1.ServiceTypeNodePort
	svc.Spec.ClusterIP = ip
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: nodePort}}
	return svc
}

func TestServiceClaims(t *testing.T) {
	r := newRegistries(t)
	services := registry.Of[*corev1.Service](r, schema.Services)
	first := must[*corev1.Service](t)(services.Create(t.Context(), service("a", "10.96.0.10", 30080)))
	if _, err := services.Create(t.Context(), service("b", "10.96.0.10", 0)); !apierrors.IsInvalid(err) {
		t.Errorf("same address: %v", err)
	}
	if _, err := services.Create(t.Context(), service("b", "", 30080)); !apierrors.IsInvalid(err) {
		t.Errorf("same node port: %v", err)
	}
	if _, err := services.Create(t.Context(), service("b", "192.0.2.1", 0)); !apierrors.IsInvalid(err) {
		t.Errorf("address outside of the range: %v", err)
	}
	if _, err := services.Create(t.Context(), service("b", "", 70080)); !apierrors.IsInvalid(err) {
		t.Errorf("node port outside of the range: %v", err)
	}
	if err := services.Delete(t.Context(), "default", "a"); err != nil {
		t.Fatal(err)
	}
	again := must[*corev1.Service](t)(services.Create(t.Context(), service("b", "10.96.0.10", 30080)))
	if again.Spec.ClusterIP != first.Spec.ClusterIP {
		t.Errorf("address %s", again.Spec.ClusterIP)
	}
}

// TestBatchOfServices creates many services in one transaction out of a range
// so small that their choices meet, beside one that asks for an address.
func TestBatchOfServices(t *testing.T) {
	store := memory.New()
	r := registry.New(store, registry.Config{ServiceCIDR: netip.MustParsePrefix("10.9.0.0/26"), NodePorts: registry.PortRange{First: 30000, Last: 30029}})
	if _, err := r.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	var writes []registry.Write
	for i := range 24 {
		writes = append(writes, registry.Write{Create: service(fmt.Sprint("s", i), "", 0)})
	}
	auto := must[schema.Object](t)(registry.New(memoryWithNamespace(t), registry.Config{ServiceCIDR: netip.MustParsePrefix("10.9.0.0/26")}).
		Create(t.Context(), service("s0", "", 0))).(*corev1.Service)
	writes = append(writes, registry.Write{Create: service("asks", auto.Spec.ClusterIP, 30010)})
	results, _, err := r.Commit(t.Context(), writes)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, obj := range results {
		svc := obj.(*corev1.Service)
		seen[svc.Spec.ClusterIP] = true
		seen[fmt.Sprint(svc.Spec.Ports[0].NodePort)] = true
	}
	if asked := results[24].(*corev1.Service); asked.Spec.ClusterIP != auto.Spec.ClusterIP || asked.Spec.Ports[0].NodePort != 30010 {
		t.Errorf("asked for %s and 30010, got %+v", auto.Spec.ClusterIP, asked.Spec)
	}
	if len(seen) != 50 {
		t.Errorf("%d addresses and ports for 25 services", len(seen))
	}
	_, _, err = r.Commit(t.Context(), []registry.Write{{Create: service("x", "10.9.0.60", 0)}, {Create: service("y", "10.9.0.60", 0)}})
	if !apierrors.IsInvalid(err) {
		t.Errorf("two that ask for the same: %v", err)
	}
}

func memoryWithNamespace(t *testing.T) registry.Store {
	store := memory.New()
	if _, err := registry.New(store, registry.Config{}).Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	return store
}

// TestServiceAllocation fills a small range from many goroutines: every
// service has its own address, and the one too many is refused.
func TestServiceAllocation(t *testing.T) {
	r := newRegistries(t)
	services := registry.Of[*corev1.Service](r, schema.Services)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := services.Create(t.Context(), service(fmt.Sprint("s", i), "", 0)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, _, err := services.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, svc := range all {
		seen[svc.Spec.ClusterIP] = true
		seen[fmt.Sprint(svc.Spec.Ports[0].NodePort)] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d addresses and ports for 50 services", len(seen))
	}
}

func TestWatchFromRevision(t *testing.T) {
	r := newRegistries(t)
	pods := registry.Of[*corev1.Pod](r, schema.Pods)
	must[*corev1.Pod](t)(pods.Create(t.Context(), pod("a", "")))
	_, from, err := pods.List(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	must[*corev1.Pod](t)(pods.Create(t.Context(), pod("b", "")))
	if err := pods.Delete(t.Context(), "default", "a"); err != nil {
		t.Fatal(err)
	}
	var got []string
	stop := errors.New("enough")
	err = pods.Watch(t.Context(), "default", from, func(e registry.Event[*corev1.Pod]) error {
		got = append(got, fmt.Sprint(e.Type, " ", e.Object.Name))
		if len(got) == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{string(watch.Added) + " b", string(watch.Deleted) + " a"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestMirror follows a store through changes and a compaction that it missed.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		r := registry.New(store, registry.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		m := registry.NewMirror(registry.MirrorConfig{Store: store})
		wg.Go(func() { _ = m.Run(ctx) })
		<-m.Synced()
		sub := m.Subscribe(schema.Pods)
		must[schema.Object](t)(r.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
		created := must[schema.Object](t)(r.Create(ctx, pod("a", "n1")))
		synctest.Wait()
		if got := m.Get(schema.KeyOf(created)); cmp.Diff(created, got) != "" {
			t.Errorf("mirror: %v", got)
		}
		if diff := cmp.Diff([]schema.Key{schema.KeyOf(created)}, sub.Next(ctx)); diff != "" {
			t.Errorf("dirty (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]schema.Key{schema.KeyOf(created)}, m.PodsOn("n1")); diff != "" {
			t.Errorf("pods on n1 (-want +got):\n%s", diff)
		}
		cancel()
		wg.Wait()
		_, err := r.Delete(t.Context(), registry.Deletion{Key: schema.KeyOf(created), GraceSeconds: new(int64)})
		if err != nil {
			t.Fatal(err)
		}
		must[schema.Object](t)(r.Create(t.Context(), pod("b", "")))
		store.Compact(m.Revision() + 10)
		ctx, cancel = context.WithCancel(t.Context())
		wg.Go(func() { _ = m.Run(ctx) })
		synctest.Wait()
		if m.Get(schema.KeyOf(created)) != nil || m.Count(schema.Pods) != 1 {
			t.Errorf("after a relist: %v", m.List(schema.Pods, ""))
		}
		cancel()
		wg.Wait()
	})
}

// TestEventsPass: an event that anybody writes is gone an hour after it last
// happened, and an object is not.
func TestEventsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistries(t)
		event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}
		created := must[schema.Object](t)(r.Create(t.Context(), event))
		<-time.After(50 * time.Minute)
		again := created.DeepCopyObject().(*corev1.Event)
		again.Count = 2
		must[schema.Object](t)(r.Update(t.Context(), again))
		<-time.After(50 * time.Minute)
		must[schema.Object](t)(r.Get(t.Context(), schema.KeyOf(event)))
		<-time.After(20 * time.Minute)
		if _, err := r.Get(t.Context(), schema.KeyOf(event)); !apierrors.IsNotFound(err) {
			t.Errorf("after an hour: %v", err)
		}
		must[schema.Object](t)(r.Get(t.Context(), schema.Namespaces.Key("", "default")))
	})
}
