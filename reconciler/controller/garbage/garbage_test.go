package garbage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/garbage"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func run(t *testing.T, test func(w *controllertest.World)) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		w.Start(func(ctx context.Context) error {
			return garbage.Run(ctx, garbage.Config{Writer: w.Writer, Logger: w.Logger})
		})
		test(w)
	})
}

func rc(w *controllertest.World, name string) *corev1.ReplicationController {
	return w.Create(&corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}).(*corev1.ReplicationController)
}

func pod(w *controllertest.World, name, node string, owner *corev1.ReplicationController) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	if owner != nil {
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner, schema.ReplicationControllers.GVK)}
	}
	return w.Create(p).(*corev1.Pod)
}

func phase(p corev1.PodPhase) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) { s.Phase = p }
}

// want checks which pods there are; those on their way out have a minus.
func want(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	w.Revision()
	pods, _, err := w.Writer.Registries.List(w.T.Context(), schema.Pods, "")
	if err != nil {
		w.T.Fatal(err)
	}
	var got []string
	for _, p := range pods {
		if p.GetDeletionTimestamp() != nil {
			got = append(got, "-"+p.GetName())
		} else {
			got = append(got, p.GetName())
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		w.T.Errorf("%s: pods (-want +got):\n%s", what, diff)
	}
}

func TestOwnerGone(t *testing.T) {
	run(t, func(w *controllertest.World) {
		web := rc(w, "web")
		pod(w, "a", "n1", web)
		pod(w, "b", "", web)
		pod(w, "free", "n1", nil)
		want(w, "owned", "a", "b", "free")
		w.Delete(schema.KeyOf(web), nil)
		want(w, "the owner is gone", "-a", "free")
		old := rc(w, "old")
		pod(w, "c", "n1", old)
		w.Delete(schema.KeyOf(old), nil)
		again := rc(w, "old")
		pod(w, "d", "n1", again)
		want(w, "another of the same name", "-a", "-c", "d", "free")
	})
}

// TestStopped removes a pod, its binding and its status when its agent says
// that it has stopped: this one, not an earlier one of the name.
func TestStopped(t *testing.T) {
	run(t, func(w *controllertest.World) {
		a := pod(w, "a", "n1", nil)
		w.Status(a, true)
		want(w, "stopped but not told to", "a")
		w.Delete(schema.KeyOf(a), nil)
		want(w, "told to, and stopped")
		if left := append(w.Keys(schema.BindingsPrefix), w.Keys(schema.PodStatusPrefix)...); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		b := pod(w, "b", "n1", nil)
		other := b.DeepCopy()
		other.UID = "other"
		w.Delete(schema.KeyOf(b), nil)
		w.Status(other, true)
		want(w, "another has stopped", "-b")
		w.Status(b, true)
		want(w, "it has stopped")
	})
}

func TestNodeGone(t *testing.T) {
	run(t, func(w *controllertest.World) {
		web := rc(w, "web")
		going := pod(w, "going", "n1", nil)
		pod(w, "owned", "n1", web)
		pod(w, "placed-by-hand", "n1", nil)
		scheduled := pod(w, "scheduled", "", nil)
		if _, err := w.Writer.Registries.Bind(t.Context(), registry.Binding{Pod: scheduled, Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		w.Delete(schema.KeyOf(going), nil)
		want(w, "before", "-going", "owned", "placed-by-hand", "scheduled")
		w.Delete(schema.Nodes.Key("", "n1"), nil)
		want(w, "at once", "owned", "placed-by-hand", "scheduled")
		<-time.After(30 * time.Second)
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		<-time.After(30 * time.Second)
		want(w, "the node was registered again", "owned", "placed-by-hand", "scheduled")
		w.Delete(schema.Nodes.Key("", "n1"), nil)
		<-time.After(41 * time.Second)
		want(w, "after a while", "placed-by-hand")
	})
}

func TestStrayStatus(t *testing.T) {
	run(t, func(w *controllertest.World) {
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
		a := pod(w, "a", "n1", nil)
		w.Status(a, false)
		elsewhere := a.DeepCopy()
		elsewhere.Spec.NodeName = "n2"
		w.Status(elsewhere, false)
		ghost := a.DeepCopy()
		ghost.Name = "ghost"
		w.Status(ghost, false)
		if diff := cmp.Diff([]string{"n1/default/a"}, w.Keys(schema.PodStatusPrefix)); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
	})
}

func TestFinished(t *testing.T) {
	run(t, func(w *controllertest.World) {
		web := rc(w, "web")
		for i := range 4 {
			p := pod(w, fmt.Sprint("p", i), "n1", web)
			if i < 3 {
				w.Status(p, false, phase(corev1.PodFailed))
			}
			<-time.After(2 * time.Second)
		}
		want(w, "one failed pod is kept", "p2", "p3")
	})
	run(t, func(w *controllertest.World) {
		for i := range garbage.KeepFinished + 10 {
			w.Status(pod(w, fmt.Sprintf("p%04d", i), "n1", nil), false, phase(corev1.PodSucceeded))
			if i < 10 {
				<-time.After(time.Second)
			}
		}
		w.Revision()
		pods, _, _ := w.Writer.Registries.List(t.Context(), schema.Pods, "")
		if len(pods) != garbage.KeepFinished || pods[0].GetName() != "p0010" {
			t.Errorf("%d pods, the oldest of them %s", len(pods), pods[0].GetName())
		}
	})
}
