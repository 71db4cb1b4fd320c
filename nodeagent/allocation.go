package nodeagent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/evenkeel/evenkeel/schema"
)

// allocation is what of CPU and memory a pod has been given: other resources
// that it asks for are given when the node has them (Kubernetes: "Resize CPU
// and Memory Resources assigned to Containers").
type allocation struct {
	Pod        *corev1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]corev1.ResourceRequirements `json:"containers,omitempty"` // by name
}

func allocationOf(pod *corev1.Pod) allocation {
	a := allocation{Pod: pod.Spec.Resources, Containers: map[string]corev1.ResourceRequirements{}}
	for _, list := range containerLists(pod) {
		for i := range list {
			a.Containers[list[i].Name] = list[i].Resources
		}
	}
	return a
}

func containerLists(pod *corev1.Pod) [][]corev1.Container {
	return [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers}
}

// in is a pod with what it has been given; the pod itself if that is what it
// asks for.
func (a allocation) in(pod *corev1.Pod) *corev1.Pod {
	if a.same(allocationOf(pod)) {
		return pod
	}
	pod = pod.DeepCopy()
	pod.Spec.Resources = a.Pod.DeepCopy()
	for _, list := range containerLists(pod) {
		for i := range list {
			if r, given := a.Containers[list[i].Name]; given {
				list[i].Resources = *r.DeepCopy()
			}
		}
	}
	return pod
}

func (a allocation) same(b allocation) bool {
	if !equality.Semantic.DeepEqual(a.Pod, b.Pod) {
		return false
	}
	for name, r := range b.Containers {
		if given, known := a.Containers[name]; known && !equality.Semantic.DeepEqual(given, r) {
			return false
		}
	}
	return true
}

// allotment is the record of a pod, kept beside its files so that it survives
// the agent.
type allotment struct {
	Allocated allocation `json:"allocated"`
	// Actual is by name of the containers that still have something else.
	Actual map[string]corev1.ResourceRequirements `json:"actual,omitempty"`
	// Shape says that the cgroups are not yet as allocated.
	Shape bool `json:"shape,omitempty"`

	asked, given *corev1.Pod // as last bound, and that with what is allocated
	pending      *pendingResize
	kept         bool // it has a file
}

// pendingResize is why a pod does not get what it asks for.
type pendingResize struct {
	reason, message string
	generation      int64
	since           time.Time
}

// allocations keeps what the node's pods have been given. Its methods are safe
// to call at once.
type allocations struct {
	dir         func(podUID string) string
	allocatable corev1.ResourceList
	live        func() []*corev1.Pod
	event       func(about schema.Object, eventType, reason, message string)
	logger      *slog.Logger

	mu   sync.Mutex
	pods map[string]*allotment
}

func newAllocations(
	dir func(string) string, allocatable corev1.ResourceList, live func() []*corev1.Pod,
	event func(about schema.Object, eventType, reason, message string), logger *slog.Logger,
) *allocations {
	return &allocations{dir: dir, allocatable: allocatable, live: live, event: event, logger: logger, pods: map[string]*allotment{}}
}

// take returns the pod with what it has been given, which is what it asks for
// if the node has that; began says that it is another amount from now on.
func (k *allocations) take(pod *corev1.Pod, final bool) (given *corev1.Pod, began bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.ofLocked(pod)
	if m.asked == pod {
		return m.given, false
	}
	m.asked, m.given = pod, m.Allocated.in(pod)
	if m.given == pod || final {
		m.pending = nil
		return m.given, false
	}
	began = k.tryLocked(m)
	return m.given, began
}

// given is a pod with what it has been given.
func (k *allocations) given(pod *corev1.Pod) *corev1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.pods[string(pod.UID)]; m != nil {
		return m.Allocated.in(pod)
	}
	return pod
}

// ofLocked finds a pod's record; what it asks for when it is first seen it has.
func (k *allocations) ofLocked(pod *corev1.Pod) *allotment {
	uid := string(pod.UID)
	if m := k.pods[uid]; m != nil {
		return m
	}
	m := &allotment{}
	data, err := os.ReadFile(k.file(uid))
	if err == nil {
		err = json.Unmarshal(data, m)
	}
	m.kept = err == nil
	if err != nil {
		m = &allotment{Allocated: allocationOf(pod)}
		if !errors.Is(err, fs.ErrNotExist) {
			k.logger.Warn("what the pod was given cannot be read: it has what it asks for", "pod", nameOf(pod), "uid", uid, "error", err)
		}
	}
	k.pods[uid] = m
	return m
}

// tryLocked gives a pod what it asks for, if the node has it.
func (k *allocations) tryLocked(m *allotment) (given bool) {
	pod := m.asked
	if p := k.refuseLocked(pod); p != nil {
		reason := "ResizeDeferred"
		if p.reason == corev1.PodReasonInfeasible {
			reason = "ResizeInfeasible"
		}
		if before := m.pending; before != nil && before.reason == p.reason && before.generation == p.generation {
			p.since = before.since
		} else {
			k.event(pod, corev1.EventTypeWarning, reason, resizeMessage("Pod resize "+p.reason, pod, p.message))
		}
		m.pending = p
		return false
	}
	if m.Actual == nil {
		m.Actual = map[string]corev1.ResourceRequirements{}
	}
	next := allocationOf(pod)
	for name, r := range next.Containers {
		actual, differs := m.Actual[name]
		if !differs {
			actual = m.Allocated.Containers[name]
		}
		if equality.Semantic.DeepEqual(actual, r) {
			delete(m.Actual, name)
		} else {
			m.Actual[name] = actual
		}
	}
	m.Allocated, m.Shape, m.given, m.pending = next, true, pod, nil
	k.saveLocked(m)
	k.event(pod, corev1.EventTypeNormal, "ResizeStarted", resizeMessage("Pod resize started", pod, ""))
	return true
}

// refuseLocked says why the node does not have what a pod asks for, or nil.
func (k *allocations) refuseLocked(pod *corev1.Pod) *pendingResize {
	p := &pendingResize{generation: pod.Generation, since: time.Now()}
	now, wanted, used := requestsOf(k.ofLocked(pod).given), requestsOf(pod), asked{}
	for _, other := range k.live() {
		if other.UID != pod.UID {
			used = used.plus(requestsOf(k.ofLocked(other).Allocated.in(other)))
		}
	}
	for _, r := range []struct {
		name              corev1.ResourceName
		now, wanted, used int64
		there             int64
	}{
		{corev1.ResourceCPU, now.cpu, wanted.cpu, used.cpu, k.allocatable.Cpu().MilliValue()},
		{corev1.ResourceMemory, now.memory, wanted.memory, used.memory, k.allocatable.Memory().Value()},
	} {
		switch {
		case r.wanted <= r.now: // what it gives back, or keeps, is no question
		case r.wanted > r.there:
			p.reason = corev1.PodReasonInfeasible
			p.message = fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", r.name, r.wanted, r.there)
			return p
		case r.wanted+r.used > r.there && p.reason == "":
			p.reason = corev1.PodReasonDeferred
			p.message = fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", r.name, r.wanted, r.used, r.there)
		}
	}
	if p.reason == "" {
		return nil
	}
	return p
}

// retry gives pods that wait for it what they ask for, in Kubernetes' order:
// those with the higher priority first, then the guaranteed, then who waits
// longest. It returns whose turn came, or of which there is something else to
// say.
func (k *allocations) retry() (uids []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var waiting []*allotment
	for _, m := range k.pods {
		if m.pending != nil && m.pending.reason == corev1.PodReasonDeferred {
			waiting = append(waiting, m)
		}
	}
	slices.SortFunc(waiting, func(a, b *allotment) int {
		return cmp.Or(cmp.Compare(priorityOf(b.asked), priorityOf(a.asked)), cmp.Compare(rankOf(b.asked), rankOf(a.asked)), a.pending.since.Compare(b.pending.since))
	})
	for _, m := range waiting {
		if why := m.pending.message; k.tryLocked(m) || m.pending.message != why {
			uids = append(uids, string(m.asked.UID))
		}
	}
	return uids
}

func priorityOf(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func rankOf(pod *corev1.Pod) int {
	if schema.QOSClass(pod) == corev1.PodQOSGuaranteed {
		return 1
	}
	return 0
}

// keep writes down what a pod has been given, once its files have a place. One
// that asks for nothing cannot be given something else.
func (k *allocations) keep(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.pods[uid]; m != nil && !m.kept && schema.QOSClass(m.given) != corev1.PodQOSBestEffort {
		m.kept = true
		k.saveLocked(m)
	}
}

// state is how far a pod is with what it has been given.
func (k *allocations) state(uid string) Resize {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.pods[uid]
	if m == nil {
		return Resize{}
	}
	r := Resize{Actual: maps.Clone(m.Actual), Shape: m.Shape}
	if p := m.pending; p != nil {
		r.Pending, r.Message = p.reason, p.message
	}
	return r
}

// have notes that containers have what they were given, or will have it when
// they start.
func (k *allocations) have(uid string, containers ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.pods[uid]; m != nil {
		for _, name := range containers {
			delete(m.Actual, name)
		}
		k.saveLocked(m)
	}
}

// done notes that a pod is as given says, unless it was given something else
// meanwhile.
func (k *allocations) done(uid string, given *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.pods[uid]; m != nil && m.given == given {
		m.Actual, m.Shape = nil, false
		k.saveLocked(m)
	}
}

// over notes that a pod has ended: it gets nothing else any more.
func (k *allocations) over(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.pods[uid]; m != nil {
		m.pending = nil
	}
}

func (k *allocations) forget(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, uid)
}

func (k *allocations) file(uid string) string { return filepath.Join(k.dir(uid), "resources.json") }

// saveLocked replaces the file at once. Without it a successor takes what the
// pod asks for as given.
func (k *allocations) saveLocked(m *allotment) {
	if !m.kept {
		return
	}
	uid := string(m.asked.UID)
	data, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(k.file(uid)+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(k.file(uid)+".new", k.file(uid))
	}
	if err != nil {
		k.logger.Warn("what the pod has been given is not written down", "pod", nameOf(m.asked), "uid", uid, "error", err)
	}
}
