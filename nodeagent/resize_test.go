package nodeagent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// sized gives a pod's first container a request of CPU, a limit twice as high,
// and a limit of memory; it counts as another generation.
func sized(pod *corev1.Pod, cpu, memory string) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Generation++
	limit := resource.MustParse(cpu)
	limit.Add(limit)
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: limit, corev1.ResourceMemory: resource.MustParse(memory)},
	}
	return pod
}

func restartsFor(pod *corev1.Pod, name corev1.ResourceName) *corev1.Pod {
	pod.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: name, RestartPolicy: corev1.RestartContainer}}
	return pod
}

func TestResizeStep(t *testing.T) {
	noon := time.Unix(1e9, 0)
	pod := restartsFor(sized(newPod("a", "a", "b"), "100m", "10Mi"), corev1.ResourceMemory)
	had := sized(pod, "100m", "20Mi").Spec.Containers[0].Resources
	other := sized(pod, "200m", "10Mi").Spec.Containers[0].Resources
	up := []runtime.Status{{ID: "a/0", Name: "a", State: runtime.Running}, {ID: "b/0", Name: "b", State: runtime.Running}}
	stop := Action{Kind: Stop, ID: "a/0", Reason: "container a resize requires restart", Replace: true, Resize: true}
	update := Decision{Actions: []Action{{Kind: Update}}}
	for name, c := range map[string]struct {
		actual  corev1.ResourceRequirements
		none    bool
		observe func(*Observed)
		want    Decision
	}{
		"nothing":                      {none: true, observe: func(o *Observed) { o.Resize.Shape = false }},
		"in place":                     {actual: other, want: update},
		"of the pod alone":             {none: true, want: update},
		"anew":                         {actual: had, want: Decision{Actions: []Action{stop}}},
		"being stopped":                {actual: had, observe: func(o *Observed) { o.Stopping = map[string]bool{"a/0": true} }},
		"stopped":                      {actual: had, observe: func(o *Observed) { o.Containers[0].State = runtime.Exited }, want: update},
		"not known whether it runs":    {actual: had, observe: func(o *Observed) { o.Containers[0].State = runtime.Unknown }},
		"went wrong a short while ago": {actual: other, observe: func(o *Observed) { o.Resize.Failure.RetryAt = noon.Add(time.Second) }, want: Decision{Again: time.Second}},
		"went wrong long ago":          {actual: other, observe: func(o *Observed) { o.Resize.Failure.RetryAt = noon.Add(-time.Second) }, want: update},
	} {
		t.Run(name, func(t *testing.T) {
			o := Observed{Containers: slices.Clone(up), Resize: Resize{Shape: true}}
			if !c.none {
				o.Resize.Actual = map[string]corev1.ResourceRequirements{"a": c.actual}
			}
			if c.observe != nil {
				c.observe(&o)
			}
			var d Decision
			d.resize(pod, o, noon)
			if diff := cmp.Diff(c.want, d); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// resized is what is said of a pod's resize: its conditions, and what its first
// container has.
func (w *world) resized(pod *corev1.Pod) string {
	w.t.Helper()
	status := w.said(pod).Status
	var out []string
	for _, c := range status.Conditions {
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
			out = append(out, strings.TrimSpace(strings.Join([]string{string(c.Type), c.Reason, c.Message}, " ")))
		}
	}
	c := status.ContainerStatuses[0]
	out = append(out, "has "+c.Resources.Requests.Cpu().String()+" "+c.Resources.Limits.Memory().String()+" of "+c.AllocatedResources.Cpu().String())
	return strings.Join(out, "; ")
}

func (w *world) wantResized(pod *corev1.Pod, want string) {
	w.t.Helper()
	if got := w.resized(pod); got != want {
		w.t.Errorf("pod %s: got %q, want %q", pod.Name, got, want)
	}
}

// wantCgroups compares CPU shares and limit of memory of a pod's container, and
// the quota of its pod.
func (w *world) wantCgroups(pod *corev1.Pod, shares uint64, memory, quota int64) {
	w.t.Helper()
	spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), pod.Spec.Containers[0].Name))
	got := []any{spec.Resources.CPUShares, spec.Resources.MemoryLimit, spec.PodResources.CPUQuota}
	if diff := cmp.Diff([]any{shares, memory, quota}, got); diff != "" {
		w.t.Errorf("pod %s: %s", pod.Name, diff)
	}
}

func TestResizeInPlace(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := sized(newPod("a", "main"), "100m", "64Mi")
		w.start()
		w.bind(pod)
		id := w.runtime.Find(string(pod.UID), "main")
		pid := w.pid(id)
		w.wantCgroups(pod, 102, 64<<20, 20000)
		bigger := sized(pod, "500m", "128Mi")
		w.bind(bigger)
		w.wantState(pod, "Running main=running,ready,0")
		w.wantResized(pod, "has 500m 128Mi of 500m")
		w.wantCgroups(pod, 512, 128<<20, 100000)
		if w.runtime.Find(string(pod.UID), "main") != id || w.pid(id) != pid {
			t.Errorf("another container or process\n%s", w.runtime.Dump())
		}
		const summary = `{"containers":[{"name":"main","resources":{"limits":{"cpu":"1","memory":"128Mi"},"requests":{"cpu":"500m","memory":"1Mi"}}}],"generation":2}`
		w.wantEvent(pod, "ResizeStarted: Pod resize started: "+summary)
		w.wantEvent(pod, "ResizeCompleted: Pod resize completed: "+summary)
		if got := w.said(pod).Status.ObservedGeneration; got != 2 {
			t.Errorf("observed generation %d", got)
		}
		w.exit(pod, "main", 1)
		w.wantCgroups(pod, 512, 128<<20, 100000)
		w.delete(bigger, 0)
		w.unbind(pod)
		w.pass(time.Minute)
		w.wantNothing(pod)
	})
}

// TestResizeWaits: the node has two cores. What does not fit waits, also
// through a restart of the agent, and is given when there is room, to the more
// important first.
func TestResizeWaits(t *testing.T) {
	inWorld(t, func(w *world) {
		big, a, b := sized(newPod("big", "main"), "1500m", "64Mi"), sized(newPod("a", "main"), "100m", "64Mi"), sized(newPod("b", "main"), "100m", "64Mi")
		w.start()
		w.bind(big, a, b)
		w.bind(sized(a, "3", "64Mi"))
		const infeasible = "PodResizePending Infeasible Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000; has 100m 64Mi of 100m"
		w.wantResized(a, infeasible)
		moreA, moreB := sized(sized(a, "3", "64Mi"), "1200m", "64Mi"), sized(b, "1200m", "64Mi")
		moreB.Spec.Priority = new(int32(5))
		w.bind(moreA, moreB)
		const deferred = "PodResizePending Deferred Node didn't have enough resource: cpu, requested: 1200, used: 1600, capacity: 2000; has 100m 64Mi of 100m"
		w.wantResized(a, deferred)
		w.wantResized(b, deferred)
		w.wantCgroups(a, 102, 64<<20, 20000)
		w.kill()
		w.start()
		w.wantResized(a, deferred)
		w.wantState(a, "Running main=running,ready,0")
		w.exit(a, "main", 1)
		w.wantCgroups(a, 102, 64<<20, 20000)
		w.delete(big, 0)
		w.unbind(big)
		w.pass(time.Second)
		w.wantResized(b, "has 1200m 64Mi of 1200m")
		w.wantCgroups(b, 1228, 64<<20, 240000)
		w.wantResized(a, strings.Replace(deferred, "1600", "1200", 1))
		w.bind(sized(moreB, "700m", "64Mi"))
		w.wantResized(b, "has 700m 64Mi of 700m")
		w.wantResized(a, "has 1200m 64Mi of 1200m")
	})
}

// TestResizeByRestart: a container whose policy says so is started anew, at
// once however often.
func TestResizeByRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := restartsFor(sized(newPod("a", "main"), "100m", "64Mi"), corev1.ResourceMemory)
		w.start()
		w.bind(pod)
		for i, memory := range []string{"65Mi", "66Mi", "67Mi"} {
			pod = sized(pod, "100m", memory)
			w.bind(pod)
			w.pass(time.Second)
			w.wantState(pod, "Running main=running,ready,"+string(rune('1'+i)))
			w.wantResized(pod, "has 100m "+memory+" of 100m")
			w.wantCgroups(pod, 102, int64(65+i)<<20, 20000)
		}
		w.wantEvent(pod, "Killing: Stopping container main: container main resize requires restart")
		w.bind(sized(pod, "200m", "67Mi"))
		w.wantState(pod, "Running main=running,ready,3")
		w.wantCgroups(pod, 204, 67<<20, 40000)
	})
}

// TestResizeGoesOn: a container that an earlier agent began to stop for other
// resources has not crashed when it ends.
func TestResizeGoesOn(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := restartsFor(sized(newPod("a", "main"), "100m", "64Mi"), corev1.ResourceMemory)
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		w.bind(sized(pod, "100m", "65Mi"))
		w.pass(time.Second)
		w.kill()
		w.start()
		w.pass(time.Second)
		for _, state := range []string{"Running main=running,ready,1", "Running main=running,ready,2"} {
			w.exit(pod, "main", 1)
			w.pass(time.Second)
			w.wantState(pod, state)
		}
	})
}

// TestResizeFails: what the machine refuses is tried again, by the next agent
// too.
func TestResizeFails(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := sized(newPod("a", "main"), "100m", "64Mi")
		w.start()
		w.bind(pod)
		refused := errors.New("cannot decrease memory limits")
		for range 3 {
			w.runtime.FailNext("Update", refused)
		}
		w.bind(sized(pod, "200m", "32Mi"))
		const failed = "PodResizeInProgress Error cannot decrease memory limits; has 100m 64Mi of 200m"
		w.wantResized(pod, failed)
		w.pass(time.Second)
		w.wantResized(pod, failed)
		w.kill()
		w.start()
		w.wantResized(pod, failed)
		w.pass(time.Second)
		w.wantResized(pod, "has 200m 32Mi of 200m")
		w.wantCgroups(pod, 204, 32<<20, 40000)
		w.wantState(pod, "Running main=running,ready,0")
		if n := w.runtime.Calls("Update"); n != 4 {
			t.Errorf("%d updates", n)
		}
	})
}

// TestResizeOfPod: what a pod may use as a whole is for those of its containers
// that have no limits of their own.
func TestResizeOfPod(t *testing.T) {
	inWorld(t, func(w *world) {
		whole := func(pod *corev1.Pod, memory string) *corev1.Pod {
			pod = pod.DeepCopy()
			pod.Generation++
			list := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
			pod.Spec.Resources = &corev1.ResourceRequirements{Requests: list, Limits: list}
			return pod
		}
		pod := whole(newPod("a", "main", "side"), "64Mi")
		w.start()
		w.bind(pod)
		w.bind(whole(pod, "128Mi"))
		for _, name := range []string{"main", "side"} {
			spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), name))
			if spec.Resources.MemoryLimit != 128<<20 || spec.PodResources.MemoryLimit != 128<<20 {
				t.Errorf("%s: %+v in %+v", name, spec.Resources, spec.PodResources)
			}
		}
		status := w.said(pod).Status
		if status.Resources.Limits.Memory().String() != "128Mi" || status.AllocatedResources.Memory().String() != "128Mi" {
			t.Errorf("%+v of %+v", status.Resources, status.AllocatedResources)
		}
		w.bind(whole(pod, "8Gi"))
		const infeasible = "Node didn't have enough capacity: memory, requested: 8589934592, capacity: 4294967296"
		if c := conditionOf(w.said(pod).Status.Conditions, corev1.PodResizePending); c == nil || c.Message != infeasible {
			t.Errorf("%+v", c)
		}
	})
}

// TestResizeEndsWithPod: a pod that has ended waits for nothing.
func TestResizeEndsWithPod(t *testing.T) {
	inWorld(t, func(w *world) {
		big, pod := sized(newPod("big", "main"), "1500m", "64Mi"), sized(withPolicy(newPod("a", "main"), corev1.RestartPolicyNever), "100m", "64Mi")
		w.start()
		w.bind(big, pod)
		w.bind(sized(pod, "1200m", "64Mi"))
		w.exit(pod, "main", 0)
		w.delete(big, 0)
		w.unbind(big)
		w.pass(time.Minute)
		w.wantState(pod, "Succeeded main=Completed,0")
		w.wantResized(pod, "has 100m 64Mi of 100m")
		if all := strings.Join(w.events(pod), "\n"); strings.Contains(all, "ResizeStarted") {
			t.Error(all)
		}
	})
}

// TestResizeDoesNotShield: under pressure a pod counts with what it was given,
// not with what it waits for.
func TestResizeDoesNotShield(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("memory.available<100Mi", images.Thresholds{})
		modest, greedy := podNamed("modest", "64Mi"), podNamed("greedy", "100Mi")
		w.meter.uses("modest", pressure.Usage{Memory: 60 << 20})
		w.meter.uses("greedy", pressure.Usage{Memory: 500 << 20, Containers: map[string]pressure.ContainerUsage{"main": {Memory: 500 << 20}}})
		w.meter.say(available(pressure.MemoryAvailable, 50<<20))
		w.start()
		w.bind(modest, greedy)
		w.bind(modest, podNamed("greedy", "5Gi"))
		w.pass(15 * time.Second)
		w.wantEvicted(greedy, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "+
			"Container main was using 500Mi, request is 100Mi, has larger consumption of memory. ", true)
	})
}

func TestAllocation(t *testing.T) {
	whole := corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}
	pod := newPod("a", "main", "side")
	pod.Spec.Resources = &whole
	given := allocationOf(pod)
	other := sized(pod, "1", "1Gi")
	other.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi")}}
	if got := given.in(pod); got != pod {
		t.Error("copied a pod that has what it asks for")
	}
	got := given.in(other)
	if diff := cmp.Diff(pod.Spec, got.Spec); diff != "" {
		t.Error(diff)
	}
	if other.Spec.Containers[0].Resources.Limits.Memory().String() != "1Gi" || got.Generation != other.Generation {
		t.Error("the pod as it was asked for is changed")
	}
}
