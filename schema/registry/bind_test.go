package registry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func TestBind(t *testing.T) {
	r := newRegistries(t)
	must[schema.Object](t)(r.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	create := func(name string) *corev1.Pod {
		return must[schema.Object](t)(r.Create(t.Context(), pod(name, ""))).(*corev1.Pod)
	}
	a, b, changed := create("a"), create("b"), create("changed")
	later := changed.DeepCopy()
	later.Labels = map[string]string{"x": "y"}
	must[schema.Object](t)(r.Update(t.Context(), later))

	for _, c := range []struct {
		name    string
		binding registry.Binding
		is      func(error) bool
	}{
		{"changed since", registry.Binding{Pod: changed, Node: "n1"}, apierrors.IsConflict},
		{"no such node", registry.Binding{Pod: b, Node: "n2"}, apierrors.IsNotFound},
		{"bound already", registry.Binding{Pod: pod("c", "n1"), Node: "n1"}, apierrors.IsBadRequest},
	} {
		_, _, err := r.Commit(t.Context(), []registry.Write{{Bind: &registry.Binding{Pod: a, Node: "n1"}}, {Bind: &c.binding}})
		var refused *registry.BindError
		if !errors.As(err, &refused) || refused.Key.Name != c.binding.Pod.Name || !c.is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, revision, err := r.Commit(t.Context(), []registry.Write{{Bind: &registry.Binding{Pod: a, Node: "n1"}}, {Bind: &registry.Binding{Pod: b, Node: "n1"}}})
	if err != nil {
		t.Fatal(err)
	}
	if a.Spec.NodeName != "" {
		t.Error("the pod given was changed")
	}
	got := must[schema.Object](t)(r.Get(t.Context(), schema.KeyOf(a))).(*corev1.Pod)
	if c := got.Status.Conditions; got.Spec.NodeName != "n1" || len(c) != 1 || c[0].Type != corev1.PodScheduled || c[0].Status != corev1.ConditionTrue {
		t.Errorf("bound pod: node %q, conditions %+v", got.Spec.NodeName, c)
	}
	kv, err := r.Store().Get(t.Context(), "/registry/bindings/n1/pods/default/a")
	if err != nil || kv.Mod != revision {
		t.Errorf("binding: %v, %v", kv, err)
	}
	if _, err := r.Bind(t.Context(), registry.Binding{Pod: got, Node: "n1"}); !apierrors.IsConflict(err) {
		t.Errorf("twice: %v", err)
	}
}

// TestMirrorParts asks for what agents say before, and after, there is an
// object to say it of.
func TestMirrorParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistries(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		put := func(key string, obj schema.Object) {
			var data []byte
			if obj != nil {
				data = must[[]byte](t)(schema.Encode(obj))
			}
			must[int64](t)(r.Store().Commit(ctx, registry.Txn{Ops: []registry.Op{registry.Put(key, data)}}))
		}
		owned := pod("a", "n1")
		controller := true
		owned.OwnerReferences = []metav1.OwnerReference{{UID: "rc-uid", Controller: &controller}}
		a := must[schema.Object](t)(r.Create(ctx, owned)).(*corev1.Pod)
		must[schema.Object](t)(r.Create(ctx, pod("free", "")))
		status := pod("a", "")
		status.UID, status.Annotations = a.UID, map[string]string{schema.StoppedAnnotation: string(a.UID)}
		put(schema.PodStatusPath("n1", "default", "a"), status)
		put(schema.PodStatusPath("n2", "default", "gone"), pod("gone", ""))
		put(schema.NodeStatusPrefix+"n9", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n9"}})
		put(schema.NodeLeasePrefix+"n9", nil)

		m := registry.NewMirror(registry.MirrorConfig{Store: r.Store()})
		var wg sync.WaitGroup
		wg.Go(func() { _ = m.Run(ctx) })
		<-m.Synced()
		sub := m.Subscribe(schema.Pods, schema.Nodes)
		want := []schema.Key{schema.Nodes.Key("", "n9"), schema.Pods.Key("default", "a"), schema.Pods.Key("default", "free"), schema.Pods.Key("default", "gone")}
		if diff := cmp.Diff(want, sub.Next(ctx)); diff != "" {
			t.Errorf("dirty (-want +got):\n%s", diff)
		}
		joined := m.Get(schema.KeyOf(a))
		if joined.GetAnnotations()[schema.StoppedAnnotation] == "" || m.Stored(schema.KeyOf(a)).GetAnnotations() != nil {
			t.Errorf("joined %v, stored %v", joined.GetAnnotations(), m.Stored(schema.KeyOf(a)).GetAnnotations())
		}
		if got := m.PodStatuses(schema.Pods.Key("default", "gone")); len(got) != 1 || got[0].Node != "n2" {
			t.Errorf("status of a pod that is gone: %+v", got)
		}
		if got := m.NodeStatuses(); len(got) != 1 || got[0].Name != "n9" || !m.NodePresent("n9") || m.NodeStatus("n1") != nil {
			t.Errorf("node statuses: %+v", got)
		}
		if diff := cmp.Diff([]schema.Key{schema.KeyOf(a)}, m.PodsOf("rc-uid")); diff != "" {
			t.Errorf("owned (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]schema.Key{schema.Pods.Key("default", "free")}, m.PodsWithoutController("default")); diff != "" {
			t.Errorf("free (-want +got):\n%s", diff)
		}
		for prefix, count := range map[string]int{"/registry/bindings/n1/": 1, "/registry/bindings/n": 1, "/registry/bindings/n2/": 0} {
			if got := m.Raw(prefix); len(got) != count {
				t.Errorf("raw %s: %d", prefix, len(got))
			}
		}
		cancel()
		wg.Wait()
	})
}

// TestBindingIsCreateOnly holds the Kubernetes resource to what it is: a way
// to bind, not something that is kept.
func TestBindingIsCreateOnly(t *testing.T) {
	r := newRegistries(t)
	must[schema.Object](t)(r.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}))
	must[schema.Object](t)(r.Create(t.Context(), pod("a", "")))
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "other"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	if _, err := r.Create(t.Context(), binding); !apierrors.IsConflict(err) {
		t.Errorf("of another pod of the name: %v", err)
	}
	binding.UID = ""
	bound := must[schema.Object](t)(r.Create(t.Context(), binding)).(*corev1.Pod)
	if bound.Spec.NodeName != "n1" {
		t.Errorf("bound to %q", bound.Spec.NodeName)
	}
	if _, err := r.Create(t.Context(), binding); err == nil {
		t.Error("bound twice")
	}
	key := schema.Key{Resource: "bindings", Namespace: "default", Name: "a"}
	_, get := r.Get(t.Context(), key)
	_, update := r.Update(t.Context(), binding)
	_, status := r.UpdateStatus(t.Context(), binding)
	_, del := r.Delete(t.Context(), registry.Deletion{Key: key})
	for verb, err := range map[string]error{"get": get, "update": update, "update status": status, "delete": del} {
		if !apierrors.IsMethodNotSupported(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}
