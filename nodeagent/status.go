package nodeagent

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Status says what is so of a pod, in the words of Kubernetes' API. before is
// the status last reported: it dates conditions that did not change, and a
// terminal phase in it stays. Pure.
func Status(pod *corev1.Pod, o Observed, hostIP string, before corev1.PodStatus, now time.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}},
		StartTime: before.StartTime, QOSClass: qosClass(pod),
		PodIP: o.IP, ObservedGeneration: pod.Generation,
	}
	if s.StartTime == nil {
		s.StartTime = stamp(now)
	}
	if o.IP != "" {
		s.PodIPs = []corev1.PodIP{{IP: o.IP}}
	}
	initialized := true
	for i := range pod.Spec.InitContainers {
		c := containerStatus(pod, &pod.Spec.InitContainers[i], o, now, "PodInitializing")
		c.Ready = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
		initialized = initialized && c.Ready
		s.InitContainerStatuses = append(s.InitContainerStatuses, c)
	}
	waiting := "ContainerCreating"
	if !initialized {
		waiting = "PodInitializing"
	}
	for i := range pod.Spec.Containers {
		c := containerStatus(pod, &pod.Spec.Containers[i], o, now, waiting)
		initialized = initialized || c.ContainerID != ""
		s.ContainerStatuses = append(s.ContainerStatuses, c)
	}
	policy := pod.Spec.RestartPolicy
	if pod.DeletionTimestamp != nil {
		policy = corev1.RestartPolicyNever // of a pod that is going nothing starts again
	}
	s.Phase = Phase(policy, s.InitContainerStatuses, s.ContainerStatuses)
	if terminal(before.Phase) {
		s.Phase = before.Phase
	}
	s.Conditions = podConditions(pod, o, s, initialized, before.Conditions, now)
	return s
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

func stamp(t time.Time) *metav1.Time { return &metav1.Time{Time: t.UTC().Truncate(time.Second)} }

func containerStatus(pod *corev1.Pod, c *corev1.Container, o Observed, now time.Time, waiting string) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool)}
	last := latest(o, c.Name)
	if f, failed := o.Failures[c.Name]; failed && pod.DeletionTimestamp == nil && (last == nil || last.State != runtime.Running) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
	}
	if last == nil {
		if s.State.Waiting == nil {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waiting, Message: waitingFor(c, o)}
		}
		return s
	}
	s.ContainerID = "containerd://" + last.ID
	s.ImageID = last.ImageID
	s.RestartCount = int32(last.Attempt)
	s.LastTerminationState = previous(o, last)
	switch last.State {
	case runtime.Running, runtime.Unknown:
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *stamp(last.StartedAt)}}
		health := o.Health[last.ID]
		*s.Started = health.Started
		s.Ready = health.Started && health.Ready
	case runtime.Created:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: waiting}
	case runtime.Exited:
		exitedStatus(pod, &s, last, o, now)
	}
	return s
}

// waitingFor says what a container that was never started waits for.
func waitingFor(c *corev1.Container, o Observed) string {
	if o.Pulling[c.Name] {
		return "pulling image " + c.Image
	}
	return o.Failures[""].Message
}

// exitedStatus says whether an exited container waits for its restart.
func exitedStatus(pod *corev1.Pod, s *corev1.ContainerStatus, last *runtime.Status, o Observed, now time.Time) {
	ended := terminated(last, o)
	if s.State.Waiting != nil {
		s.LastTerminationState = ended
		return
	}
	again := pod.DeletionTimestamp == nil && startsAgain(pod, last, o)
	if again && o.Replaced[last.ID] {
		s.LastTerminationState = ended
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		return
	}
	wait := last.FinishedAt.Add(CrashDelay(o.Crashes[s.Name])).Sub(now)
	if again && wait > 0 {
		s.LastTerminationState = ended
		s.State.Waiting = &corev1.ContainerStateWaiting{
			Reason:  "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %v restarting container %s of pod %s/%s", CrashDelay(o.Crashes[s.Name]), s.Name, pod.Namespace, pod.Name),
		}
		return
	}
	s.State = ended
}

func previous(o Observed, last *runtime.Status) corev1.ContainerState {
	if before := attemptOf(o, last.Name, last.Attempt-1); before != nil {
		return terminated(before, o)
	}
	return corev1.ContainerState{}
}

func terminated(c *runtime.Status, o Observed) corev1.ContainerState {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: "Completed", ContainerID: "containerd://" + c.ID,
		Message:   o.Messages[c.ID],
		StartedAt: *stamp(c.StartedAt), FinishedAt: *stamp(c.FinishedAt),
	}
	switch {
	case c.OOMKilled:
		t.Reason = "OOMKilled"
	case c.ExitCode != 0:
		t.Reason = "Error"
	}
	return corev1.ContainerState{Terminated: t}
}

// Phase sums a pod's containers up (Kubernetes: Pod Lifecycle, "Pod phase").
func Phase(policy corev1.RestartPolicy, init, containers []corev1.ContainerStatus) corev1.PodPhase {
	for _, c := range init {
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
		case c.State.Terminated != nil && policy == corev1.RestartPolicyNever:
			return corev1.PodFailed
		case slices.ContainsFunc(containers, func(c corev1.ContainerStatus) bool { return c.ContainerID != "" }):
		default:
			return corev1.PodPending
		}
	}
	var waiting, running, failed, succeeded int
	for _, c := range containers {
		switch {
		case c.State.Running != nil:
			running++
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			succeeded++
		case c.State.Terminated != nil:
			failed++
		case c.LastTerminationState.Terminated != nil:
			running++ // between two runs
		default:
			waiting++
		}
	}
	switch {
	case waiting > 0:
		return corev1.PodPending
	case running > 0 || policy == corev1.RestartPolicyAlways:
		return corev1.PodRunning
	case failed == 0:
		return corev1.PodSucceeded
	case policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	}
	return corev1.PodRunning
}

// podConditions sets the agent's conditions; PodScheduled is the scheduler's.
func podConditions(pod *corev1.Pod, o Observed, s corev1.PodStatus, initialized bool, before []corev1.PodCondition, now time.Time) []corev1.PodCondition {
	var unready []string
	for _, c := range s.ContainerStatuses {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	ready := corev1.PodCondition{Status: corev1.ConditionTrue}
	switch {
	case s.Phase == corev1.PodSucceeded:
		ready = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodCompleted"}
	case s.Phase == corev1.PodFailed:
		ready = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodFailed"}
	case len(unready) > 0:
		ready = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: fmt.Sprintf("containers with unready status: %v", unready)}
	}
	isInitialized := corev1.PodCondition{Status: corev1.ConditionTrue}
	if !initialized {
		isInitialized = corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "ContainersNotInitialized"}
	}
	sandbox := corev1.PodCondition{Status: corev1.ConditionTrue}
	if !o.Sandbox {
		sandbox = corev1.PodCondition{Status: corev1.ConditionFalse, Message: o.Failures[""].Message}
	}
	conditions := []corev1.PodCondition{
		withType(sandbox, corev1.PodReadyToStartContainers), withType(isInitialized, corev1.PodInitialized),
		withType(ready, corev1.ContainersReady), withType(ready, corev1.PodReady),
	}
	for i := range conditions {
		conditions[i].ObservedGeneration = pod.Generation
		conditions[i].LastTransitionTime = *stamp(now)
		for _, b := range before {
			if b.Type == conditions[i].Type && b.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = b.LastTransitionTime
			}
		}
	}
	return conditions
}

func withType(c corev1.PodCondition, t corev1.PodConditionType) corev1.PodCondition {
	c.Type = t
	return c
}

// qosClass is Kubernetes' "Quality of Service Classes".
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	guaranteed, asks := true, false
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[r], c.Resources.Limits[r]
			asks = asks || !request.IsZero() || !limit.IsZero()
			guaranteed = guaranteed && !limit.IsZero() && (request.IsZero() || request.Cmp(limit) == 0)
		}
	}
	switch {
	case !asks:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// sameStatus compares two reports.
func sameStatus(a, b corev1.PodStatus) bool { return equality.Semantic.DeepEqual(a, b) }
