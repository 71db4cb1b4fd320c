package apiserver_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestNodeLeases reads the leases of nodes, which nobody may write; all others
// are as ever.
func TestNodeLeases(t *testing.T) {
	w := inMemory(t)
	ctx := t.Context()
	for _, node := range []string{"n1", "n2"} {
		id, err := w.store.Grant(ctx, time.Minute)
		w.must(nil, err)
		w.must(w.store.Commit(ctx, registry.Txn{Ops: []registry.Op{{Key: schema.NodeLeasePrefix + node, Lease: id}}}))
	}
	own := w.kube.CoordinationV1().Leases("default")
	w.must(own.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "own"}}, metav1.CreateOptions{}))
	leases := w.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, "n1", metav1.GetOptions{})
	w.must(nil, err)
	if s := lease.Spec; *s.HolderIdentity != "n1" || *s.LeaseDurationSeconds != 60 || time.Since(s.RenewTime.Time) > time.Minute || time.Until(s.RenewTime.Time) > 0 {
		t.Errorf("%+v", s)
	}
	if _, err := leases.Get(ctx, "n3", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get n3: %v", err)
	}
	names := func(list *coordinationv1.LeaseList, err error) (out []string) {
		w.must(nil, err)
		for i := range list.Items {
			out = append(out, list.Items[i].Name)
		}
		return out
	}
	if diff := cmp.Diff([]string{"n1", "n2"}, names(leases.List(ctx, metav1.ListOptions{}))); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"n2"}, names(leases.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=n2"}))); diff != "" {
		t.Errorf("list of one (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"own"}, names(w.kube.CoordinationV1().Leases("").List(ctx, metav1.ListOptions{}))); diff != "" {
		t.Errorf("list of all namespaces (-want +got):\n%s", diff)
	}
	_, create := leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}, metav1.CreateOptions{})
	_, update := leases.Update(ctx, lease, metav1.UpdateOptions{})
	_, watch := leases.Watch(ctx, metav1.ListOptions{})
	for verb, err := range map[string]error{
		"create": create, "update": update, "watch": watch, "delete": leases.Delete(ctx, "n1", metav1.DeleteOptions{}),
		"delete all": leases.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}),
	} {
		if !apierrors.IsMethodNotSupported(err) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}
