package nodeagent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

func static(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	pod, err := StaticPod(pod, node, "file")
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// give brings the agent all the static pods that there are.
func (w *world) give(pods ...*corev1.Pod) {
	w.own <- pods
	synctest.Wait()
}

func TestStaticPodIdentity(t *testing.T) {
	pod := newPod("a", "main")
	first, again := static(t, pod), static(t, pod)
	if first.Name != "a-"+node || first.UID != again.UID || !isStaticUID(string(first.UID)) {
		t.Errorf("name %s, UIDs %s and %s", first.Name, first.UID, again.UID)
	}
	pod.Spec.Containers[0].Image = "app:2"
	if other := static(t, pod); other.UID == first.UID {
		t.Error("another manifest has the same UID")
	}
	if pod.Name != "a" || isStaticUID(string(pod.UID)) {
		t.Error("the pod given was changed")
	}
}

// Without any control plane the static pods run, are restarted, replaced when
// their manifest changes, kept by the next agent, and removed with their file.
func TestStaticPodsAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.own, w.alone = make(chan []*corev1.Pod), true
		w.store.dark.Store(true)
		own := newPod("a", "main")
		own.Annotations = map[string]string{schema.CutOffAnnotation: schema.CutOffStop} // there is nothing to be cut off from
		pod := static(t, own)
		w.start()
		w.give(pod)
		if !w.runs(pod) {
			t.Fatal("does not run")
		}
		w.exit(pod, "main", 1)
		w.pass(time.Minute)
		if !w.runs(pod) {
			t.Error("not restarted")
		}
		w.kill()
		w.start()
		w.give(pod)
		w.pass(time.Minute)
		if w.runtime.Calls("Start") != 2 {
			t.Errorf("%d starts, want the first and one restart", w.runtime.Calls("Start"))
		}

		changed := newPod("a", "main")
		changed.Spec.Containers[0].Command = []string{"/other"}
		next := static(t, changed)
		w.give(next)
		w.pass(time.Minute)
		w.wantNothing(pod)
		if !w.runs(next) {
			t.Error("the changed one does not run")
		}

		w.kill()
		w.start()
		w.give() // the file went while no agent was there
		w.pass(time.Minute)
		w.wantNothing(next)
	})
}

// With a control plane a static pod is shown to it, and its mirror has the
// status; deleting the mirror stops nothing.
func TestStaticPodsMirrored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.own = make(chan []*corev1.Pod)
		pod := static(t, newPod("a", "main"))
		w.start()
		w.give(pod)
		w.pass(time.Second)
		shown, err := w.store.Get(t.Context(), schema.StaticPodsPrefix+node+"/default/a-"+node)
		if err != nil {
			t.Fatal(err)
		}
		obj, err := schema.DecodeObject(shown.Value)
		if err != nil || obj.GetUID() != pod.UID {
			t.Fatalf("shown %v, %v", obj, err)
		}

		for i := range 2 {
			mirror := pod.DeepCopy()
			mirror.UID = types.UID(fmt.Sprint("mirror-", i))
			mirror.Annotations[schema.MirrorAnnotation] = string(pod.UID)
			w.bind(mirror)
			w.wantState(mirror, "Running main=running,ready,0")
			if said := w.said(mirror); said.UID != mirror.UID {
				t.Errorf("status of %s, want the mirror's %s", said.UID, mirror.UID)
			}
			w.delete(mirror, 30)
			if said := w.said(mirror); said.Annotations[schema.StoppedAnnotation] != string(mirror.UID) {
				t.Errorf("the deleted mirror is held: %v", said.Annotations)
			}
			w.unbind(mirror)
			if !w.runs(pod) {
				t.Fatal("the static pod was stopped with its mirror")
			}
		}
		if w.runtime.Calls("Start") != 1 {
			t.Errorf("%d starts, want 1", w.runtime.Calls("Start"))
		}
		w.give()
		w.pass(time.Minute)
		w.wantNothing(pod)
		if _, err := w.store.Get(t.Context(), schema.StaticPodsPrefix+node+"/default/a-"+node); err == nil {
			t.Error("still shown")
		}
	})
}
