package nodelife_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodelife"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func start(w *controllertest.World) {
	w.Start(func(ctx context.Context) error {
		return nodelife.Run(ctx, nodelife.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger, PodCIDR: netip.MustParsePrefix("10.8.0.0/22")})
	})
}

// ranges says which node has which range.
func ranges(w *controllertest.World) map[string]string {
	w.T.Helper()
	w.Revision()
	nodes, _, err := w.Writer.Registries.List(w.T.Context(), schema.Nodes, "")
	if err != nil {
		w.T.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range nodes {
		out[n.GetName()] = n.(*corev1.Node).Spec.PodCIDR
	}
	return out
}

func TestRegistration(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Report("early", true)
		start(w)
		w.Report("n1", true, func(n *corev1.Node) {
			n.Labels = map[string]string{"disk": "ssd"}
			n.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"}
		})
		w.Revision()
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "declared"}})
		if diff := cmp.Diff(map[string]string{"early": "10.8.0.0/24", "n1": "10.8.1.0/24", "declared": "10.8.2.0/24"}, ranges(w)); diff != "" {
			t.Errorf("ranges (-want +got):\n%s", diff)
		}
		wantLabels := map[string]string{"disk": "ssd", "kubernetes.io/hostname": "n1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
		if diff := cmp.Diff(wantLabels, w.Get(schema.Nodes.Key("", "n1")).GetLabels()); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		w.Change(schema.Nodes.Key("", "declared"), func(obj schema.Object) { obj.SetLabels(map[string]string{"disk": "tape"}) })
		report := func() {
			w.Report("declared", true, func(n *corev1.Node) { n.Labels = map[string]string{"disk": "ssd", "zone": "a"} })
		}
		report()
		wantLabels = map[string]string{"disk": "tape", "zone": "a", "kubernetes.io/hostname": "declared"}
		if diff := cmp.Diff(wantLabels, w.Get(schema.Nodes.Key("", "declared")).GetLabels()); diff != "" {
			t.Errorf("labels of one that was declared (-want +got):\n%s", diff)
		}
		w.Change(schema.Nodes.Key("", "declared"), func(obj schema.Object) { delete(obj.GetLabels(), "zone") })
		report()
		if labels := w.Get(schema.Nodes.Key("", "declared")).GetLabels(); labels["zone"] != "" {
			t.Errorf("a label that was taken away is back: %v", labels)
		}
		w.Delete(schema.Nodes.Key("", "early"), nil)
		if diff := cmp.Diff([]string{"10.8.1.0_24", "10.8.2.0_24"}, w.Keys(schema.PodCIDRsPrefix)); diff != "" {
			t.Errorf("claims after a node is gone (-want +got):\n%s", diff)
		}
		w.Report("n4", true)
		w.Revision()
		w.Report("n5", true)
		w.Revision()
		w.Report("n6", true)
		if diff := cmp.Diff(map[string]string{"n1": "10.8.1.0/24", "declared": "10.8.2.0/24", "n4": "10.8.0.0/24", "n5": "10.8.3.0/24"}, ranges(w)); diff != "" {
			t.Errorf("ranges are given again, and none twice (-want +got):\n%s", diff)
		}
	})
}

// TestClaimIsNotTakenTwice has another writer claim the range that is next.
func TestClaimIsNotTakenTwice(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Commit(registry.Put(schema.PodCIDRsPrefix+"10.8.0.0_24", []byte("other")))
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: corev1.NodeSpec{PodCIDR: "10.8.1.0/24"}})
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
		start(w)
		w.Report("n1", true)
		if diff := cmp.Diff(map[string]string{"own": "10.8.1.0/24", "other": "10.8.0.0/24", "n1": "10.8.2.0/24"}, ranges(w)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
