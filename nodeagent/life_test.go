package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	return readyIn(kv.Value)
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

func TestImageComes(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Containers[0].Image = "other:1"
		w.start()
		w.bind(pod)
		w.wantState(pod, "Pending main=ErrImagePull,0")
		w.pass(10 * time.Second)
		w.wantState(pod, "Pending main=ImagePullBackOff,0")
		w.runtime.AddImage(rt.Image{Ref: "other:1", Cmd: []string{"/other"}})
		w.images <- struct{}{}
		synctest.Wait()
		w.wantState(pod, "Running main=running,ready,0")
	})
}

func TestReferenceComes(t *testing.T) {
	for _, kind := range []string{"env", "volume"} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				waiting := "Pending main=CreateContainerConfigError,0"
				if kind == "env" {
					pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
				} else {
					waiting = "Pending main=ContainerCreating,0"
					pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
				}
				w.start()
				w.bind(pod)
				w.wantState(pod, waiting)
				w.bind(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"COLOUR": "red"}})
				w.wantState(pod, "Running main=running,ready,0")
			})
		})
	}
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

func TestForcedDeletion(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		next := newPod("a", "main")
		next.UID = "uid-next"
		w.bind(next) // in its place, at once
		w.wantState(next, "Running main=running,ready,0")
		w.pass(30*time.Second - time.Millisecond)
		if w.runtime.Calls("Kill") != 0 {
			t.Error("killed before its grace was over")
		}
		w.pass(time.Second)
		w.wantNothing(pod)
		if got := w.said(next).UID; got != next.UID {
			t.Errorf("status is of pod %s", got)
		}
		w.wantState(next, "Running main=running,ready,0")
	})
}

func TestShorterGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		w.delete(pod, 300)
		w.pass(10 * time.Second)
		w.delete(pod, 0)
		w.pass(time.Millisecond)
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Errorf("not stopped at once\n%s", w.runtime.Dump())
		}
	})
}

func TestDeletedWhen(t *testing.T) {
	tests := map[string]func(w *world, pod *corev1.Pod){
		"waiting for an image": func(w *world, pod *corev1.Pod) {
			pod.Spec.Containers[0].Image = "nowhere:1"
			w.bind(pod)
		},
		"never prepared": func(w *world, pod *corev1.Pod) {
			w.network.cidrErr = errors.New("no such device")
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}}}}
			w.bind(pod)
		},
		"an init container runs": func(w *world, pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "app:1"}}
			w.bind(pod)
			w.wantState(pod, "Pending init=running,0 main=PodInitializing,0")
		},
		"backing off": func(w *world, pod *corev1.Pod) {
			w.bind(pod)
			w.exit(pod, "main", 1)
			w.exit(pod, "main", 1)
		},
		"a hook runs": func(w *world, pod *corev1.Pod) {
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 500}}}
			w.bind(pod)
			w.wantState(pod, "Running main=running,0")
		},
		"deleted before it was seen": func(*world, *corev1.Pod) {},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				w.start()
				prepare(w, pod)
				w.delete(pod, 30)
				w.pass(time.Second)
				if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
					t.Errorf("not stopped\n%s", w.runtime.Dump())
				}
				w.wantNothing(pod)
				w.unbind(pod)
				w.kill()
			})
		})
	}
}

func TestEndedPod(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main", "side")
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		w.start()
		w.bind(pod)
		w.exit(pod, "main", 3)
		w.wantState(pod, "Running main=Error,0 side=running,ready,0")
		w.exit(pod, "side", 0)
		w.wantState(pod, "Failed main=Error,0 side=Completed,0")
		if sandboxes, _ := w.network.List(); len(sandboxes) != 0 {
			t.Error("an ended pod keeps its address")
		}
		if w.runtime.Calls("Remove") != 0 {
			t.Error("containers of an ended pod are gone before it is deleted")
		}
		written := w.keysOf(schema.PodStatusPrefix)
		w.kill()
		w.start()
		w.pass(time.Minute)
		if diff := cmp.Diff(written, w.keysOf(schema.PodStatusPrefix)); diff != "" {
			t.Errorf("status written after the restart: %s", diff)
		}
		w.delete(pod, 30)
		w.wantNothing(pod)
		w.wantState(pod, "Failed main=Error,0 side=Completed,0")
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not said to be stopped")
		}
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

func TestHostNetwork(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.HostNetwork = true
		w.start()
		w.bind(pod)
		if got := w.said(pod).Status.PodIP; got != "192.168.0.1" {
			t.Errorf("pod IP is %q", got)
		}
		spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "main"))
		if spec.Hostname != node || spec.Namespaces.Net != "" {
			t.Errorf("hostname %q, network %q", spec.Hostname, spec.Namespaces.Net)
		}
	})
}

func TestImageChange(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.runtime.AddImage(rt.Image{Ref: "app:2", Cmd: []string{"/app"}})
				pod := newPod("a", "main", "side")
				pod.Spec.RestartPolicy = policy
				w.start()
				w.bind(pod)
				for i := range 3 {
					pod = pod.DeepCopy()
					pod.Spec.Containers[0].Image = []string{"app:2", "app:1", "app:2"}[i]
					w.bind(pod)
					w.wantState(pod, fmt.Sprintf("Running main=running,ready,%d side=running,ready,0", i+1))
				}
			})
		})
	}
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
		w.pass(time.Second)
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

func TestTeardownIsTriedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		w.network.mu.Lock()
		w.network.stuck = true
		w.network.mu.Unlock()
		w.delete(pod, 1)
		w.pass(20 * time.Second)
		if w.said(pod).Annotations[schema.StoppedAnnotation] != "" {
			t.Error("said to be stopped with its network still there")
		}
		w.network.mu.Lock()
		w.network.stuck = false
		w.network.mu.Unlock()
		w.pass(time.Minute)
		w.wantNothing(pod)
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not said to be stopped")
		}
	})
}
