package nodeagent

import (
	"strconv"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

func TestPodRuns(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main", "side")
		w.start()
		w.bind(pod)
		w.wantState(pod, "Running main=running,ready,0 side=running,ready,0")
		if ip := w.said(pod).Status.PodIP; ip != "10.1.0.2" {
			t.Errorf("pod IP %q", ip)
		}
	})
}

func TestCrashLoop(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		w.exit(pod, "main", 1)
		w.wantState(pod, "Running main=running,ready,1")
		for restarts, delay := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second} {
			w.exit(pod, "main", 1)
			w.wantState(pod, "Running main=CrashLoopBackOff,"+strconv.Itoa(restarts+1))
			w.pass(delay - time.Millisecond)
			w.wantState(pod, "Running main=CrashLoopBackOff,"+strconv.Itoa(restarts+1))
			w.pass(time.Millisecond)
			w.wantState(pod, "Running main=running,ready,"+strconv.Itoa(restarts+2))
		}
		w.pass(10 * time.Minute)
		w.exit(pod, "main", 1)
		w.wantState(pod, "Running main=running,ready,9")
	})
}

func TestDeletion(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main", "stubborn")
		w.runtime.IgnoreSIGTERM("stubborn")
		w.start()
		w.bind(pod)
		w.delete(pod, 20)
		w.pass(drainDelay)
		w.wantState(pod, "Running main=Error,0 stubborn=running,ready,0")
		w.pass(20*time.Second - drainDelay - time.Millisecond)
		if w.runtime.Calls("Kill") != 0 {
			t.Error("killed before its grace was over")
		}
		w.pass(time.Millisecond)
		if w.runtime.Calls("Kill") != 1 {
			t.Error("not killed after its grace")
		}
		if got := w.said(pod).Annotations[schema.StoppedAnnotation]; got != string(pod.UID) {
			t.Errorf("stopped annotation is %q", got)
		}
		w.unbind(pod)
		w.wantNothing(pod)
	})
}
