package registry_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestListPage: the pages of a list, whatever their size and whatever happens
// meanwhile, are together what the list was.
func TestListPage(t *testing.T) {
	r := newRegistries(t)
	var first *corev1.Pod
	for i := range 9 {
		created := must[schema.Object](t)(r.Create(t.Context(), pod(fmt.Sprint("p", i), fmt.Sprint("n", i%3))))
		if i == 0 {
			first = created.(*corev1.Pod)
		}
		if i%2 == 0 {
			report(t, r, created.(*corev1.Pod), corev1.PodRunning)
		}
	}
	for i := range 3 {
		must[schema.Object](t)(r.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}}))
	}
	lease := registry.Put(schema.NodeLeasePrefix+"n1", nil)
	if _, err := r.Store().Commit(t.Context(), registry.Txn{Ops: []registry.Op{lease}}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []*schema.Kind{schema.Pods, schema.Nodes} {
		whole, at, err := r.List(t.Context(), kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for limit := range int64(len(whole) + 2) {
			if diff := cmp.Diff(whole, pages(t, r, kind, registry.Page{Limit: limit, Revision: at})); diff != "" {
				t.Errorf("%s by %d (-list +pages):\n%s", kind.Resource, limit, diff)
			}
			p := must[schema.Object](t)(r.Create(t.Context(), pod(fmt.Sprint("a", kind.Resource, limit), "n1"))).(*corev1.Pod)
			report(t, r, p, corev1.PodFailed)
			report(t, r, first, corev1.PodPhase(fmt.Sprint(limit)))
		}
	}
}

// pages reads a list page by page and checks what each says is left.
func pages(t *testing.T, r *registry.Registries, kind *schema.Kind, page registry.Page) []schema.Object {
	t.Helper()
	var all []schema.Object
	var left []int64
	for {
		objs, at, remaining, err := r.ListPage(t.Context(), kind, "", page)
		if err != nil || page.Limit > 0 && int64(len(objs)) > page.Limit || at != page.Revision {
			t.Fatalf("%d objects at %d: %v", len(objs), at, err)
		}
		all = append(all, objs...)
		left = append(left, int64(len(all))+remaining)
		if remaining == 0 {
			break
		}
		page.After = schema.KeyOf(objs[len(objs)-1])
	}
	for _, total := range left {
		if total != int64(len(all)) {
			t.Errorf("totals %v of %d", left, len(all))
		}
	}
	return all
}

func report(t *testing.T, r *registry.Registries, p *corev1.Pod, phase corev1.PodPhase) {
	t.Helper()
	status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID}, Status: corev1.PodStatus{Phase: phase}}
	op := registry.Put(schema.PodStatusPath(p.Spec.NodeName, p.Namespace, p.Name), must[[]byte](t)(schema.Encode(status)))
	if _, err := r.Store().Commit(t.Context(), registry.Txn{Ops: []registry.Op{op}}); err != nil {
		t.Fatal(err)
	}
}
