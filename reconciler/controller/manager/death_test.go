package manager_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/eviction"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodelife"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// startDeath runs what takes pods off nodes that are gone: one says which, the
// other what that means for their pods.
func startDeath(w *controllertest.World) {
	w.Start(func(ctx context.Context) error {
		return nodelife.Run(ctx, nodelife.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger})
	})
	w.Start(func(ctx context.Context) error {
		return eviction.Run(ctx, eviction.Config{Writer: w.Writer, Recorder: w, Logger: w.Logger})
	})
}

// inDeath makes nodes with a pod each and runs the controller on them.
func inDeath(t *testing.T, nodes int, test func(w *controllertest.World)) {
	controllertest.Run(t, func(w *controllertest.World) {
		for i := range nodes {
			name := fmt.Sprint("n", i)
			w.Report(name, true)
			w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			w.Create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "on-" + name}, Spec: corev1.PodSpec{NodeName: name}})
		}
		startDeath(w)
		w.Revision()
		test(w)
	})
}

func vanish(w *controllertest.World, name string) {
	w.Commit(registry.Delete(schema.NodeLeasePrefix + name))
	w.Revision()
}

func wantPods(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	if diff := cmp.Diff(want, w.Keys("/registry/pods/default/")); diff != "" {
		w.T.Errorf("%s: pods (-want +got):\n%s", what, diff)
	}
}

func TestDeadNodeIsEvicted(t *testing.T) {
	inDeath(t, 3, func(w *controllertest.World) {
		vanish(w, "n1")
		<-time.After(4900 * time.Millisecond)
		wantPods(w, "before its time", "on-n0", "on-n1", "on-n2")
		<-time.After(200 * time.Millisecond)
		wantPods(w, "after it", "on-n0", "on-n2")
		if diff := cmp.Diff([]string{
			"nodes/n1 NodeNotReady: Node n1 status is now: NodeNotReady",
			"pods/default/on-n1 TaintManagerEviction: Marking for deletion Pod default/on-n1: node n1 has the taint {node.kubernetes.io/unreachable: }",
		}, w.Events()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		w.Create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "late"}, Spec: corev1.PodSpec{NodeName: "n1"}})
		<-time.After(6 * time.Second)
		wantPods(w, "one that came later", "on-n0", "on-n2")
		vanish(w, "n2")
		<-time.After(10 * time.Second)
		wantPods(w, "the second death, of two that were left", "on-n0")
		vanish(w, "n0")
		<-time.After(time.Hour)
		wantPods(w, "the last one", "on-n0")
	})
}

func TestNodeBackInTime(t *testing.T) {
	inDeath(t, 3, func(w *controllertest.World) {
		for range 5 {
			vanish(w, "n1")
			<-time.After(4 * time.Second)
			w.Report("n1", true)
			w.Revision()
		}
		wantPods(w, "always back in time", "on-n0", "on-n1", "on-n2")
	})
}

func TestMostGoneAtOnce(t *testing.T) {
	inDeath(t, 5, func(w *controllertest.World) {
		for _, name := range []string{"n0", "n1", "n2"} {
			vanish(w, name)
			<-time.After(time.Second)
		}
		<-time.After(time.Hour)
		wantPods(w, "three of five", "on-n0", "on-n1", "on-n2", "on-n3", "on-n4")
		w.Report("n0", true)
		w.Report("n1", true)
		<-time.After(4 * time.Second)
		wantPods(w, "two are back: the clock of the third begins anew", "on-n0", "on-n1", "on-n2", "on-n3", "on-n4")
		<-time.After(2 * time.Second)
		wantPods(w, "it ran out", "on-n0", "on-n1", "on-n3", "on-n4")
	})
}

func TestSmallClusters(t *testing.T) {
	inDeath(t, 1, func(w *controllertest.World) {
		vanish(w, "n0")
		<-time.After(time.Hour)
		wantPods(w, "a single node", "on-n0")
	})
	inDeath(t, 2, func(w *controllertest.World) {
		vanish(w, "n0")
		<-time.After(10 * time.Second)
		wantPods(w, "one of two", "on-n1")
	})
	inDeath(t, 2, func(w *controllertest.World) {
		vanish(w, "n0")
		vanish(w, "n1")
		<-time.After(time.Hour)
		wantPods(w, "both of two", "on-n0", "on-n1")
	})
}
