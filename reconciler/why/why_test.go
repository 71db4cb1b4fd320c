package why_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/why"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

func meta(namespace, name string, owner *metav1.OwnerReference) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)}
	if owner != nil {
		m.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return m
}

func controlledBy(kind, name string) *metav1.OwnerReference {
	yes := true
	return &metav1.OwnerReference{APIVersion: "v1", Kind: kind, Name: name, UID: types.UID("uid-" + name), Controller: &yes}
}

func node(name, cpu string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func pod(namespace, name, onNode string, owner *metav1.OwnerReference) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta(namespace, name, owner)}
	p.Spec.NodeName = onNode
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}}}
	return p
}

// cluster is a mirror of two nodes, a declared controller with two pods, and
// pods that nobody declared.
func cluster(t *testing.T) *registry.Mirror {
	t.Helper()
	store := memory.New()
	put := func(path string, value []byte) {
		t.Helper()
		if _, err := store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(path, value)}}); err != nil {
			t.Fatal(err)
		}
	}
	store1 := func(obj schema.Object) {
		t.Helper()
		data, err := schema.Encode(obj)
		if err != nil {
			t.Fatal(err)
		}
		put(schema.KeyOf(obj).Path(), data)
		if n, ok := obj.(*corev1.Node); ok {
			put(schema.NodeStatusPrefix+n.Name, data)
			put(schema.NodeLeasePrefix+n.Name, nil)
		}
	}
	store1(node("n1", "4"))
	store1(node("n2", "1"))
	store1(&corev1.ReplicationController{ObjectMeta: meta("shop", "web", nil)})
	web := pod("shop", "web-1", "n1", controlledBy("ReplicationController", "web"))
	store1(web)
	status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: web.UID}}
	status.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s"}}}}
	status.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred, Message: "node n1 has 1 CPU left",
	}}
	data, err := schema.Encode(status)
	if err != nil {
		t.Fatal(err)
	}
	put(schema.PodStatusPath("n1", "shop", "web-1"), data)
	store1(pod("shop", "web-2", "n1", controlledBy("ReplicationController", "web")))
	store1(pod("shop", "orphan", "", controlledBy("ReplicationController", "gone")))
	store1(pod("other", "orphan", "", nil))
	entry, err := json.Marshal(reconciler.Entry{UID: "uid-web", File: "apps/web.yaml", Line: 7, Declared: json.RawMessage("{}"), Origin: &reconciler.Origin{
		Revision: "3f9c2e1aaaaaaaa", Author: "Ann <ann@example.org>", Subject: "Sell more", Time: time.Unix(1e9, 0).UTC(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(schema.SourcesPrefix+"ops/objects/replicationcontrollers/shop/web", entry)
	put(schema.SourcesPrefix+"ops/head", []byte(`{"source":"ops","location":"https://example.org/ops.git"}`))
	m := registry.NewMirror(registry.MirrorConfig{Store: store})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	<-m.Synced()
	cancel()
	<-done
	return m
}

func TestExplain(t *testing.T) {
	m := cluster(t)
	for _, c := range []struct{ object, want string }{
		{"pod/web-1", `Pod shop/web-1
  made by    ReplicationController shop/web
  declared   apps/web.yaml:7 in https://example.org/ops.git
  commit     3f9c2e1 "Sell more"
  author     Ann <ann@example.org>, 2001-09-09T01:46:40Z (2m ago)
  node       n1
  not ready  CrashLoopBackOff: back-off 10s
  resize     is pending (Deferred): node n1 has 1 CPU left
  nodes now  n1: fits, score 1470, other pods of its controller: 1
             n2: Insufficient cpu
`},
		{"rc/shop/web", `ReplicationController shop/web
  declared   apps/web.yaml:7 in https://example.org/ops.git
  commit     3f9c2e1 "Sell more"
  author     Ann <ann@example.org>, 2001-09-09T01:46:40Z (2m ago)
`},
		{"pod/shop/orphan", `Pod shop/orphan
  made by    ReplicationController shop/gone (gone)
  declared   by no source: it was made through the API, or by the system
  node       none yet
  not ready  is being scheduled
  nodes now  n1: Insufficient cpu
             n2: Insufficient cpu
`},
	} {
		key, err := why.Find(m, c.object, "")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := why.Explain(m, key)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if err := answer.Render(&got, time.Unix(1e9+120, 0)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.object, diff)
		}
	}
}

func TestFind(t *testing.T) {
	m := cluster(t)
	for word, want := range map[string]string{
		"web-1": "name an object as", "thing/web": "no kind", "pod/none": "no such object", "pod/a/b/c": "name an object as",
		"po/orphan": "which of pod/other/orphan, pod/shop/orphan?",
	} {
		if _, err := why.Find(m, word, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", word, err, want)
		}
	}
	if key, err := why.Find(m, "po/orphan", "other"); err != nil || key.Namespace != "other" {
		t.Errorf("%v, %v", key, err)
	}
}
