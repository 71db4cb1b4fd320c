package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// keysOf is what the store has under a prefix: key → revision.
func (w *world) keysOf(prefix string) map[string]int64 {
	w.t.Helper()
	kvs, _, err := w.store.List(w.t.Context(), prefix, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]int64{}
	for _, kv := range kvs {
		out[kv.Key] = kv.Mod
	}
	return out
}

func (w *world) nodeReady() corev1.NodeCondition {
	kv, err := w.store.Get(w.t.Context(), schema.NodeStatusPrefix+node)
	if err != nil {
		return corev1.NodeCondition{}
	}
	return readyIn(conditionsIn(kv.Value))
}

func (w *world) leaseHeld() bool {
	_, err := w.store.Get(w.t.Context(), schema.NodeLeasePrefix+node)
	return err == nil
}

func TestTakeOver(t *testing.T) {
	inWorld(t, func(w *world) {
		quiet, crashing, probed := newPod("quiet", "main"), newPod("crashing", "main"), newPod("probed", "main")
		probed.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 10,
		}
		w.start()
		w.bind(quiet, crashing, probed)
		w.exit(crashing, "main", 1)
		w.exit(crashing, "main", 1) // waits 10 s
		w.pass(5 * time.Second)
		pods, nodes := w.keysOf(schema.PodStatusPrefix), w.keysOf(schema.NodeStatusPrefix)
		starts := w.runtime.Calls("Start")
		dump := w.runtime.Dump()

		w.kill()
		w.pass(1500 * time.Millisecond)
		w.start()
		w.pass(3 * time.Second)
		if diff := cmp.Diff(pods, w.keysOf(schema.PodStatusPrefix)); diff != "" {
			t.Errorf("statuses were written: %s", diff)
		}
		if diff := cmp.Diff(nodes, w.keysOf(schema.NodeStatusPrefix)); diff != "" {
			t.Errorf("node status was written: %s", diff)
		}
		if diff := cmp.Diff(dump, w.runtime.Dump()); diff != "" || w.runtime.Calls("Start") != starts {
			t.Errorf("containers changed: %s", diff)
		}
		w.wantState(crashing, "Running main=CrashLoopBackOff,1")
		w.pass(500 * time.Millisecond) // its 10 s are over
		w.wantState(crashing, "Running main=running,ready,2")
		w.exit(crashing, "main", 1)
		w.pass(20*time.Second - time.Millisecond)
		w.wantState(crashing, "Running main=CrashLoopBackOff,2")
		w.pass(time.Millisecond)
		w.wantState(crashing, "Running main=running,ready,3")
	})
}

func TestBindingsThatSayNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		pod, late := newPod("a", "main"), newPod("late", "main")
		w.start()
		w.bind(pod)
		marker := schema.BindingPrefix(node) + schema.BindingNodeName
		kv, err := w.store.Get(t.Context(), marker)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(registry.Delete(marker), registry.Delete(schema.BindingPath(node, schema.KeyOf(pod))))
		w.pass(time.Minute)
		if w.runtime.Calls("Signal")+w.runtime.Calls("Kill")+w.runtime.Calls("Remove") != 0 {
			t.Error("bindings without their mark ended a pod")
		}
		w.put(schema.KeyOf(pod).String(), pod)
		w.commit(registry.Put(marker, kv.Value), registry.Put(schema.BindingPrefix(node)+"pods/default/bad", []byte("k8s\x00nonsense")),
			registry.Delete(schema.BindingPath(node, schema.KeyOf(pod))))
		w.bind(late)
		w.pass(time.Minute)
		if w.runtime.Calls("Signal")+w.runtime.Calls("Kill")+w.runtime.Calls("Remove") != 0 || w.runtime.Find("uid-late", "main") != "" {
			t.Error("bindings that cannot be read changed something")
		}
		w.commit(registry.Delete(schema.BindingPrefix(node) + "pods/default/bad"))
		w.pass(time.Minute)
		w.wantState(late, "Running main=running,ready,0")
		w.wantNothing(pod)
	})
}

func TestNodeReadyAfterLeftovers(t *testing.T) {
	inWorld(t, func(w *world) {
		left := newPod("left", "main")
		w.runtime.IgnoreSIGTERM("main")
		if err := w.runtime.Start(t.Context(), rt.Container{ID: "x", Name: "main", Image: "app:1", Pod: rt.PodRef{UID: string(left.UID)}}); err != nil {
			t.Fatal(err)
		}
		w.start()
		if got := w.nodeReady(); got.Status != corev1.ConditionFalse || w.leaseHeld() {
			t.Errorf("ready with a leftover: %+v", got)
		}
		w.pass(30 * time.Second)
		w.wantNothing(left)
		if got := w.nodeReady(); got.Status != corev1.ConditionTrue || !w.leaseHeld() {
			t.Errorf("not ready: %+v", got)
		}
	})
}

func TestLeaseIsMadeAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.pass(time.Minute)
		kv, err := w.store.Get(t.Context(), schema.NodeLeasePrefix+node)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Revoke(t.Context(), kv.Lease); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * time.Second)
		if !w.leaseHeld() {
			t.Error("no lease")
		}
	})
}

func TestRoutes(t *testing.T) {
	inWorld(t, func(w *world) {
		peer := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Spec: corev1.NodeSpec{PodCIDR: "10.1.1.0/24"}}
		w.put(schema.BindingPeersName, &corev1.NodeList{Items: []corev1.Node{peer}})
		for i := range 2 {
			w.start()
			if w.network.peerCalls != i+1 || len(w.network.peers) != 1 {
				t.Errorf("start %d: %d calls, peers %v", i, w.network.peerCalls, w.network.peers)
			}
			w.kill()
		}
	})
}

func TestRangeComesLate(t *testing.T) {
	inWorld(t, func(w *world) {
		w.network.cidrErr = errors.New("no such device")
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		w.pass(20 * time.Second)
		w.wantState(pod, "Pending main=ContainerCreating,0")
		w.network.mu.Lock()
		w.network.cidrErr = nil
		w.network.mu.Unlock()
		w.pass(routesRetry)
		w.wantState(pod, "Running main=running,ready,0")
	})
}

func TestManyPods(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		began := time.Now()
		var pods []*corev1.Pod
		for i := range 110 {
			pods = append(pods, newPod(fmt.Sprintf("p%d", i), "main"))
		}
		for _, pod := range pods {
			w.put(schema.KeyOf(pod).String(), pod)
		}
		synctest.Wait()
		for _, pod := range pods {
			w.wantState(pod, "Running main=running,ready,0")
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("starts waited %v", d)
		}
		w.pass(2 * startedDelay)
		idle := maps.Clone(w.keysOf(schema.Root))
		lists := w.runtime.Calls("Containers")
		w.pass(5 * time.Minute)
		if got := w.runtime.Calls("Containers") - lists; got > 10 {
			t.Errorf("%d lists in 5 idle minutes", got)
		}
		after := w.keysOf(schema.Root)
		maps.DeleteFunc(idle, func(k string, _ int64) bool { return strings.HasPrefix(k, schema.Root+"events/") })
		maps.DeleteFunc(after, func(k string, _ int64) bool { return strings.HasPrefix(k, schema.Root+"events/") })
		if diff := cmp.Diff(idle, after); diff != "" {
			t.Errorf("written while idle: %s", diff)
		}
	})
}

func TestStoreAway(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 5, FailureThreshold: 2,
		}
		zero := int64(1)
		pod.Spec.TerminationGracePeriodSeconds = &zero
		w.start()
		w.bind(pod)
		w.store.dark.Store(true)
		w.exit(pod, "main", 7)
		if got := w.runtime.Find(string(pod.UID), "main"); got != ContainerID(pod, "main", 1) {
			t.Errorf("not restarted: newest is %q", got)
		}
		w.runtime.OnExec(func(context.Context, string, []string) (int, []byte, error) { return 1, []byte("ill"), nil })
		w.pass(10 * time.Second)
		w.runtime.OnExec(nil)
		w.pass(20 * time.Second)
		if got := w.runtime.Find(string(pod.UID), "main"); got != ContainerID(pod, "main", 2) {
			t.Errorf("not restarted after its probe failed: newest is %q", got)
		}
		w.wantState(pod, "Running main=running,ready,0") // the store's old news
		if w.leaseHeld() {
			t.Error("lease outlived its time")
		}
		w.store.dark.Store(false)
		w.pass(2 * time.Second)
		w.wantState(pod, "Running main=running,ready,2")
		if !w.leaseHeld() {
			t.Error("lease not made again")
		}
		if w.store.failed.Load() == 0 {
			t.Error("the fault did not fire")
		}
	})
}

func TestRuntimeAway(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		for range 60 {
			w.runtime.FailNext("Containers", fmt.Errorf("list: %w", rt.ErrUnavailable))
		}
		w.runtime.DropEvents()
		w.pass(30 * time.Second)
		w.wantState(pod, "Running main=running,ready,0")
		w.pass(40 * time.Second)
		w.exit(pod, "main", 1)
		w.wantState(pod, "Running main=running,ready,1")
		if w.runtime.Calls("Start") != 2 {
			t.Error("containers were started anew")
		}
	})
}

// What a pod refers to may be gone when a new agent takes it over: its
// containers run on, stay ready and are probed.
func TestTakeOverWithoutReference(t *testing.T) {
	inWorld(t, func(w *world) {
		settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"a": "b"}}
		pod := newPod("a", "main")
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
		pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 10, FailureThreshold: 1,
		}
		w.start()
		w.bind(settings, pod)
		w.wantState(pod, "Running main=running,ready,0")
		w.kill()
		w.unbind(settings)
		w.start()
		w.pass(time.Minute)
		w.wantState(pod, "Running main=running,ready,0")
		w.runtime.OnExec(func(context.Context, string, []string) (int, []byte, error) { return 1, nil, nil })
		w.pass(10 * time.Second)
		w.wantState(pod, "Running main=running,0")
	})
}

// A pod that asks for it ends before the node's lease can have run out, is not
// started by an agent that has no lease, and comes back with the store. Others
// run on.
func TestStopWhenCutOff(t *testing.T) {
	inWorld(t, func(w *world) {
		only, other := newPod("only-once", "stubborn"), newPod("other", "main")
		only.Spec.RestartPolicy = corev1.RestartPolicyNever // it is not at its end
		w.runtime.IgnoreSIGTERM("stubborn")
		only.Annotations = map[string]string{schema.CutOffAnnotation: schema.CutOffStop}
		w.start()
		w.bind(only, other)
		w.wantState(only, "Running stubborn=running,ready,0")

		w.store.dark.Store(true)
		w.pass(3300 * time.Millisecond) // at worst the last renewal was a third of the TTL ago
		if !w.runs(only) {
			t.Error("stopped though the lease is young")
		}
		for waited := 3300 * time.Millisecond; w.runs(only); waited += 100 * time.Millisecond {
			if waited > 9*time.Second {
				t.Fatal("still running when the lease may have run out")
			}
			w.pass(100 * time.Millisecond)
		}
		w.kill()
		w.start()
		w.pass(time.Minute)
		if w.runs(only) {
			t.Error("started by an agent without a lease")
		}
		if !w.runs(other) {
			t.Error("a pod that did not ask for it was stopped")
		}

		w.store.dark.Store(false)
		w.pass(5 * time.Second)
		if !w.runs(only) {
			t.Error("not started again with the store back")
		}
		w.wantState(other, "Running main=running,ready,0")
	})
}

// A new agent hears of its lease before it judges by it: it neither stops nor
// starts what must not run without.
func TestNotCutOffByARestart(t *testing.T) {
	for name, away := range map[string]time.Duration{"store at hand": 0, "store late": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				only := newPod("only-once", "main")
				only.Annotations = map[string]string{schema.CutOffAnnotation: schema.CutOffStop}
				w.start()
				w.bind(only)
				w.kill()
				w.store.dark.Store(away > 0)
				w.start()
				w.pass(away)
				w.store.dark.Store(false)
				w.pass(10 * time.Second)
				w.wantState(only, "Running main=running,ready,0")
			})
		})
	}
}

// An agent that is restarted keeps the lease of the one before, also while it
// has something to remove first.
func TestLeaseOutlivesTheAgent(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		before, err := w.store.Get(t.Context(), schema.NodeLeasePrefix+node)
		if err != nil {
			t.Fatal(err)
		}
		w.kill()
		w.network.stuck = true
		w.network.sandboxes["gone"] = network.Sandbox{UID: "gone"}
		w.start()
		w.pass(time.Minute)
		now, err := w.store.Get(t.Context(), schema.NodeLeasePrefix+node)
		if err != nil || now.Lease != before.Lease {
			t.Errorf("lease %v after %v, %v", now.Lease, before.Lease, err)
		}
	})
}

// runs reports whether anything of a pod does.
func (w *world) runs(pod *corev1.Pod) bool {
	w.t.Helper()
	containers, err := w.runtime.Runtime.Containers(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(containers, func(c rt.Status) bool { return c.Pod.UID == string(pod.UID) && c.State == rt.Running })
}
