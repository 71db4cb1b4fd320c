package registry_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// TestNodeLease has a node that says when it took its lease, and one of an
// earlier release.
func TestNodeLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		regs := registry.New(store, registry.Config{})
		began := time.Now()
		hold := func(node string, value []byte) (registry.LeaseID, int64) {
			id, err := store.Grant(t.Context(), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			revision, err := store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{{Key: schema.NodeLeasePrefix + node, Value: value, Lease: id}}})
			if err != nil {
				t.Fatal(err)
			}
			return id, revision
		}
		acquired := metav1.NewMicroTime(began)
		value, err := schema.Encode(&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{AcquireTime: &acquired}})
		if err != nil {
			t.Fatal(err)
		}
		first, revision := hold("n1", value)
		hold("n2", []byte("10.0.0.2"))
		<-time.After(7 * time.Second)
		if err := store.KeepAlive(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		lease, err := regs.NodeLease(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		type summary struct {
			Namespace, Name, Holder string
			Revision                int64
			Seconds                 int32
			Acquired, Renewed       time.Duration
		}
		mod, err := strconv.ParseInt(lease.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got := summary{
			Namespace: lease.Namespace, Name: lease.Name, Holder: *lease.Spec.HolderIdentity, Revision: mod, Seconds: *lease.Spec.LeaseDurationSeconds,
			Acquired: lease.Spec.AcquireTime.Sub(began), Renewed: lease.Spec.RenewTime.Sub(began),
		}
		want := summary{Namespace: "kube-node-lease", Name: "n1", Holder: "n1", Revision: revision, Seconds: 10, Renewed: 7 * time.Second}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		names := func() (out []string) {
			all, _, err := regs.NodeLeases(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, obj := range all {
				out = append(out, obj.GetName())
			}
			return out
		}
		if diff := cmp.Diff([]string{"n1", "n2"}, names()); diff != "" {
			t.Errorf("both (-want +got):\n%s", diff)
		}
		<-time.After(2 * time.Second)
		if diff := cmp.Diff([]string{"n1"}, names()); diff != "" {
			t.Errorf("one ran out (-want +got):\n%s", diff)
		}
		if _, err := regs.NodeLease(t.Context(), "n2"); !apierrors.IsNotFound(err) {
			t.Errorf("one that ran out: %v", err)
		}
	})
}
