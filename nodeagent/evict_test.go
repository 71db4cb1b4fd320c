package nodeagent

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

// fakeMeter is a Meter that says what it is told to.
type fakeMeter struct {
	mu       sync.Mutex
	observed func() pressure.Observations
	usage    map[string]pressure.Usage // by pod name
	refused  map[string]int64          // forks, by pod UID
}

func (m *fakeMeter) Observe(context.Context) (pressure.Observations, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.observed == nil {
		return pressure.Observations{}, false, nil
	}
	return m.observed(), false, nil
}

func (m *fakeMeter) Usage(_ context.Context, pod *corev1.Pod, _ []rt.Status) (*pressure.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	usage := m.usage[pod.Name]
	return &usage, nil
}

func (m *fakeMeter) ForksRefused(podUID string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[podUID]
}

func (m *fakeMeter) say(observed func() pressure.Observations) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observed = observed
}

func (m *fakeMeter) uses(pod string, usage pressure.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.usage == nil {
		m.usage = map[string]pressure.Usage{}
	}
	m.usage[pod] = usage
}

func available(s pressure.Signal, bytes int64) func() pressure.Observations {
	return func() pressure.Observations {
		return pressure.Observations{s: {Available: bytes, Capacity: 1000 << 20}}
	}
}

// withEviction gives the world's agent thresholds.
func (w *world) withEviction(hard string, gc images.Thresholds) {
	w.t.Helper()
	thresholds, err := pressure.Parse(pressure.Settings{Hard: hard})
	if err != nil {
		w.t.Fatal(err)
	}
	w.eviction = Eviction{Thresholds: thresholds, ImageGC: gc}
}

func podNamed(name string, memory string) *corev1.Pod {
	pod := newPod(name, "main")
	pod.UID = types.UID("uid-" + name)
	if memory != "" {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	}
	return pod
}

func (w *world) nodeCondition(kind corev1.NodeConditionType) corev1.ConditionStatus {
	w.t.Helper()
	kv, err := w.store.Get(w.t.Context(), schema.NodeStatusPrefix+node)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range conditionsIn(kv.Value) {
		if c.Type == kind {
			return c.Status
		}
	}
	return "none"
}

// wantEvicted checks an evicted pod's status.
func (w *world) wantEvicted(pod *corev1.Pod, message string, disrupted bool) {
	w.t.Helper()
	s := w.said(pod).Status
	if s.Phase != corev1.PodFailed || s.Reason != "Evicted" || s.Message != message {
		w.t.Errorf("%s is %s %s %q, want it evicted with %q", pod.Name, s.Phase, s.Reason, s.Message, message)
	}
	c := conditionOf(s.Conditions, corev1.DisruptionTarget)
	if has := c != nil && c.Status == corev1.ConditionTrue && c.Reason == "TerminationByKubelet"; has != disrupted {
		w.t.Errorf("%s: disruption target is %+v, want %v", pod.Name, c, disrupted)
	}
	w.wantEvent(pod, "Evicted: "+message)
}

// A node short of memory says so, evicts the pod that uses more than it asked
// for, and takes no best-effort pods until a while after.
func TestMemoryPressure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("memory.available<100Mi", images.Thresholds{})
		modest, greedy := podNamed("modest", "64Mi"), podNamed("greedy", "")
		w.runtime.IgnoreSIGTERM("main")
		w.meter.uses("modest", pressure.Usage{Memory: 60 << 20})
		w.meter.uses("greedy", pressure.Usage{Memory: 500 << 20, Containers: map[string]pressure.ContainerUsage{"main": {Memory: 500 << 20}}})
		w.meter.say(available(pressure.MemoryAvailable, 400<<20))
		w.start()
		w.bind(modest, greedy)
		w.pass(11 * time.Second)
		w.wantState(greedy, "Running main=running,ready,0")
		if got := w.nodeCondition(corev1.NodeMemoryPressure); got != corev1.ConditionFalse {
			t.Errorf("at ease the condition is %s", got)
		}
		looks := 0
		w.meter.say(func() pressure.Observations {
			if looks++; looks == 1 {
				return available(pressure.MemoryAvailable, 50<<20)()
			}
			return available(pressure.MemoryAvailable, 550<<20)()
		})
		w.pass(13 * time.Second) // it ignores SIGTERM and has 1 s
		w.wantEvicted(greedy, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "+
			"Container main was using 500Mi, request is 0, has larger consumption of memory. ", true)
		w.wantState(modest, "Running main=running,ready,0")
		if got := w.nodeCondition(corev1.NodeMemoryPressure); got != corev1.ConditionTrue {
			t.Errorf("under pressure the condition is %s", got)
		}
		late, asking := podNamed("late", ""), podNamed("asking", "1Mi")
		w.bind(late, asking)
		w.wantEvicted(late, "The node had condition: [MemoryPressure]. ", false)
		w.wantState(asking, "Running main=running,ready,0")
		w.pass(5 * time.Minute)
		if got := w.nodeCondition(corev1.NodeMemoryPressure); got != corev1.ConditionFalse {
			t.Errorf("long after the condition is %s", got)
		}
	})
}

// What the cluster cannot do without stays, whatever it uses: somebody else
// goes, or nobody.
func TestCriticalStays(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("memory.available<100Mi", images.Thresholds{})
		size := resource.MustParse("10Mi")
		critical, other := podNamed("critical", ""), podNamed("other", "")
		priority := int32(2_000_000_000)
		critical.Spec.Priority = &priority
		critical.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
		w.meter.uses("critical", pressure.Usage{Memory: 500 << 20, Volumes: map[string]pressure.Disk{"scratch": {Bytes: 11 << 20}}})
		w.start()
		w.bind(critical)
		w.meter.say(available(pressure.MemoryAvailable, 50<<20))
		w.pass(time.Minute)
		w.wantState(critical, "Running main=running,ready,0")
		w.meter.say(nil)
		w.pass(6 * time.Minute)
		w.bind(other)
		w.meter.say(available(pressure.MemoryAvailable, 50<<20))
		w.pass(time.Minute)
		w.wantState(critical, "Running main=running,ready,0")
		if got := w.said(other).Status.Reason; got != "Evicted" {
			t.Errorf("the other is %q", got)
		}
	})
}

// An agent that is started again holds to what was said of an evicted pod.
func TestEvictedStaysEvicted(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("memory.available<100Mi", images.Thresholds{})
		pod := podNamed("a", "")
		w.start()
		w.bind(pod)
		w.meter.say(available(pressure.MemoryAvailable, 50<<20))
		w.pass(20 * time.Second)
		message := w.said(pod).Status.Message
		w.meter.say(nil)
		w.kill()
		w.start()
		w.pass(time.Minute)
		w.wantEvicted(pod, message, true)
		if got := w.runtime.Calls("Start"); got != 1 {
			t.Errorf("%d starts", got)
		}
	})
}

// A full disk is freed of what nobody needs before a pod goes.
func TestDiskPressure(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("nodefs.available<100Mi", images.Thresholds{High: 85, Low: 80, MinAge: time.Minute})
		w.runtime.AddImage(rt.Image{Ref: "unused:1", Size: 400 << 20})
		running, done := podNamed("running", ""), podNamed("done", "")
		done.Spec.RestartPolicy = corev1.RestartPolicyNever
		w.meter.say(available(pressure.NodeFSAvailable, 500<<20))
		w.start()
		w.bind(running, done)
		w.runtime.Exit(w.runtime.Find(string(done.UID), "main"), 0)
		w.pass(2 * time.Minute)
		w.wantState(done, "Succeeded main=Completed,0")
		w.meter.say(func() pressure.Observations {
			list, _ := w.runtime.Images(context.Background())
			return available(pressure.NodeFSAvailable, int64(2-len(list))*400<<20+50<<20)()
		})
		w.pass(11 * time.Second)
		list, err := w.runtime.Images(t.Context())
		if err != nil || len(list) != 1 || list[0].Refs[0] != "app:1" {
			t.Errorf("images left: %+v, %v", list, err)
		}
		if id := w.runtime.Find(string(done.UID), "main"); id != "" {
			t.Errorf("container %s of an ended pod is left", id)
		}
		w.wantState(done, "Succeeded main=Completed,0")
		w.wantState(running, "Running main=running,ready,0")
		if got := w.nodeCondition(corev1.NodeDiskPressure); got != corev1.ConditionTrue {
			t.Errorf("the condition is %s", got)
		}
	})
}

// A pod that writes more than it may goes alone, at once.
func TestOverDiskLimit(t *testing.T) {
	inWorld(t, func(w *world) {
		size := resource.MustParse("10Mi")
		writer, other := podNamed("writer", ""), podNamed("other", "")
		for _, pod := range []*corev1.Pod{writer, other} {
			pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
		}
		w.start()
		w.bind(writer, other)
		w.pass(11 * time.Second)
		w.wantState(writer, "Running main=running,ready,0")
		w.meter.uses("writer", pressure.Usage{Volumes: map[string]pressure.Disk{"scratch": {Bytes: 11 << 20}}})
		w.pass(11 * time.Second)
		w.wantEvicted(writer, `Usage of EmptyDir volume "scratch" exceeds the limit "10Mi". `, false)
		w.wantEvent(writer, "sizeLimit")
		w.wantState(other, "Running main=running,ready,0")
	})
}

// A pod that forks without end is told so, once for each look that finds more.
func TestForksAreTold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.podPIDs = 50
		pod := podNamed("a", "")
		w.start()
		w.bind(pod)
		w.pass(11 * time.Second)
		if all := strings.Join(w.events(pod), "\n"); strings.Contains(all, "PodPIDLimitReached") {
			t.Error("told for nothing")
		}
		w.meter.mu.Lock()
		w.meter.refused = map[string]int64{string(pod.UID): 9}
		w.meter.mu.Unlock()
		w.pass(11 * time.Second)
		w.wantEvent(pod, "PodPIDLimitReached: The pod has the 50 processes")
		w.wantState(pod, "Running main=running,ready,0")
	})
}

// Images go when their disk is as full as the threshold says, the one that was
// not used for the longest first, and no more than needed.
func TestImageGarbage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.withEviction("", images.Thresholds{High: 85, Low: 80, MinAge: 2 * time.Minute})
		for _, ref := range []string{"old:1", "used:1", "waiting:1", "ended:1"} {
			w.runtime.AddImage(rt.Image{Ref: ref, Size: 60 << 20, Cmd: []string{"/x"}})
		}
		brief := podOf("used:1", corev1.PullIfNotPresent)
		waits := podNamed("waits", "")
		waits.Spec.Containers[0].Image = "waiting:1"
		waits.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "not-yet"}}}}}
		done := podOf("ended:1", corev1.PullIfNotPresent)
		done.Name, done.UID, done.Spec.RestartPolicy = "done", "uid-done", corev1.RestartPolicyNever
		w.meter.say(available(pressure.ImageFSAvailable, 500<<20))
		w.start()
		w.bind(brief, waits, done)
		w.exit(done, "main", 0)
		w.pass(6 * time.Minute)
		w.delete(brief, 0)
		w.unbind(brief)
		w.pass(time.Minute)
		w.meter.say(available(pressure.ImageFSAvailable, 150<<20)) // 85 % full: 50 MiB must go
		w.pass(11 * time.Second)
		w.meter.say(available(pressure.ImageFSAvailable, 500<<20))
		var refs []string
		list, _ := w.runtime.Images(t.Context())
		for _, img := range list {
			refs = append(refs, img.Refs...)
		}
		slices.Sort(refs)
		if diff := cmp.Diff([]string{"ended:1", "used:1", "waiting:1"}, refs); diff != "" {
			t.Errorf("images left (-want +got):\n%s", diff)
		}
		w.meter.say(available(pressure.ImageFSAvailable, 0))
		w.pass(11 * time.Second)
		if _, err := w.runtime.Image(t.Context(), "waiting:1"); err != nil {
			t.Errorf("the image of a pod that has yet to start: %v", err)
		}
		if events := w.nodeEvents(); !strings.Contains(events, "FreeDiskSpaceFailed") {
			t.Errorf("nobody is told that too little was freed:\n%s", events)
		}
	})
}

func (w *world) nodeEvents() string {
	w.t.Helper()
	return strings.Join(w.events(&corev1.Pod{}), "\n")
}
