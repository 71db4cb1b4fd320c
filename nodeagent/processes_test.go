package nodeagent

import (
	"testing"
	"testing/synctest"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// The holder of a pod's process namespace outlives the agent, is made anew
// with what is in it when it ends, and goes with the pod.
func TestSharedProcesses(t *testing.T) {
	inWorld(t, func(w *world) {
		pod, yes := newPod("a", "main"), true
		pod.Spec.ShareProcessNamespace = &yes
		w.start()
		w.bind(pod)
		w.wantState(pod, "Running main=running,ready,0")
		first, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "main"))
		if first.Namespaces.PID == "" {
			t.Error("the container has a process namespace of its own")
		}
		w.kill()
		w.start()
		w.wantState(pod, "Running main=running,ready,0")
		if got := w.runtime.Calls("StartInit"); got != 1 {
			t.Errorf("%d holders were started", got)
		}
		holder := w.runtime.Find(string(pod.UID), rt.PodInit)
		w.runtime.Exit(holder, 137)
		w.runtime.Exit(w.runtime.Find(string(pod.UID), "main"), 137)
		synctest.Wait()
		w.wantState(pod, "Running main=running,ready,1")
		second, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "main"))
		if got := w.runtime.Calls("StartInit"); got != 2 || second.Namespaces.PID == first.Namespaces.PID {
			t.Errorf("%d holders were started, the namespace is %s", got, second.Namespaces.PID)
		}
		w.delete(pod, 0)
		w.wantNothing(pod)
	})
}
