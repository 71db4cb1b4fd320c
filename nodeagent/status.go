package nodeagent

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

// Status says what is so of a pod, in the words of Kubernetes' API. before is
// the status last reported: it dates what did not change, and a terminal phase
// in it stays. A pod is not said to have ended before nothing of it runs.
// Pure.
func Status(pod *corev1.Pod, o Observed, hostIP string, before corev1.PodStatus, now time.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}},
		StartTime: before.StartTime, QOSClass: schema.QOSClass(pod),
		PodIP: o.IP, ObservedGeneration: pod.Generation,
	}
	if s.StartTime == nil {
		s.StartTime = stamp(now)
	}
	if o.IP != "" {
		s.PodIPs = []corev1.PodIP{{IP: o.IP}}
	}
	v := view{pod: pod, Observed: o, now: now, before: before, rounds: roundsOf(pod, o)}
	v.ending = pod.DeletionTimestamp != nil || finishing(pod, o, now) != ""
	v.waiting = "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 {
		v.waiting = "PodInitializing"
	}
	for i := range pod.Spec.InitContainers {
		c := v.container(&pod.Spec.InitContainers[i], before.InitContainerStatuses)
		if !isSidecar(&pod.Spec.InitContainers[i]) {
			c.Ready = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, c)
	}
	for i := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, v.container(&pod.Spec.Containers[i], before.ContainerStatuses))
	}
	for i := range pod.Spec.EphemeralContainers {
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, v.ephemeral(asContainer(&pod.Spec.EphemeralContainers[i])))
	}
	if whole := pod.Spec.Resources; whole != nil {
		s.AllocatedResources, s.Resources = whole.Requests, whole
		if o.Resize.Shape && before.Resources != nil {
			s.Resources = before.Resources
		}
	}
	v.setPhase(&s)
	s.Conditions = podConditions(pod, o, s, before.Conditions, now)
	return s
}

// setPhase sets phase, reason and message.
func (v *view) setPhase(s *corev1.PodStatus) {
	s.Phase = Phase(v.pod, v.ending, s.InitContainerStatuses, s.ContainerStatuses)
	if doom := doomOf(v.pod, v.Observed, v.now); doom != nil {
		s.Phase, s.Reason, s.Message = corev1.PodFailed, doom.Reason, doom.Message
	}
	switch {
	case terminal(v.before.Phase):
		s.Phase = v.before.Phase
	case terminal(s.Phase) && anyUp(v.Observed):
		s.Phase, s.Reason, s.Message = v.before.Phase, "", ""
		if s.Phase == "" {
			s.Phase = corev1.PodPending
		}
	}
	if s.Phase == v.before.Phase && s.Reason == "" {
		s.Reason, s.Message = v.before.Reason, v.before.Message
	}
}

func stamp(t time.Time) *metav1.Time { return &metav1.Time{Time: t.UTC().Truncate(time.Second)} }

// view is what containers' statuses are made from.
type view struct {
	Observed
	pod     *corev1.Pod
	now     time.Time
	before  corev1.PodStatus
	rounds  rounds
	ending  bool   // nothing is started any more
	waiting string // why a container that was never started waits
}

func (v *view) container(c *corev1.Container, before []corev1.ContainerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: new(bool), VolumeMounts: mountStatuses(c, statusNamed(before, c.Name))}
	last := latest(v.Observed, c.Name)
	if f, failed := v.Failures[c.Name]; failed && !v.ending && (last == nil || last.State != runtime.Running) {
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
	}
	if last == nil {
		if s.State.Waiting == nil {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: v.waiting, Message: v.waitingFor(c)}
		}
		return s
	}
	s.ContainerID = "containerd://" + last.ID
	s.ImageID = last.ImageID
	s.RestartCount = int32(last.Attempt)
	s.LastTerminationState = v.previous(last)
	if last.StopSignal != 0 {
		s.StopSignal = new(corev1.Signal(runtime.SignalName(last.StopSignal)))
	}
	s.AllocatedResources, s.Resources = c.Resources.Requests, v.Resize.resources(c, last)
	switch last.State {
	case runtime.Running, runtime.Unknown:
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *stamp(last.StartedAt)}}
		health := v.Health[last.ID]
		*s.Started = health.Started
		s.Ready = health.Started && health.Ready
	case runtime.Created:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: v.waiting}
	case runtime.Exited:
		v.exited(&s, last)
	}
	return s
}

// mountStatuses says how volumes are mounted; as it was said before if that
// is not known to have changed.
func mountStatuses(c *corev1.Container, before *corev1.ContainerStatus) []corev1.VolumeMountStatus {
	if before != nil && len(before.VolumeMounts) > 0 {
		return before.VolumeMounts
	}
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		s := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if recursiveReadOnly(m) {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}

// waitingFor says what a container that was never started waits for.
func (v *view) waitingFor(c *corev1.Container) string {
	if words, pulling := v.Pulling[c.Name]; pulling {
		return words
	}
	return v.Failures[""].Message
}

// exited says whether an exited container waits for its restart.
func (v *view) exited(s *corev1.ContainerStatus, last *runtime.Status) {
	ended := v.terminated(last)
	past := v.rounds.past(last)
	again := !v.ending && (past || startsAgain(v.pod, last, v.Observed))
	wait := last.FinishedAt.Add(CrashDelay(v.Crashes[s.Name])).Sub(v.now)
	switch {
	case s.State.Waiting != nil:
	case again && past:
		s.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "RestartingAllContainers", Message: "The container is removed because RestartAllContainers in place",
		}
	case again && wait > 0:
		s.State.Waiting = &corev1.ContainerStateWaiting{
			Reason:  "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %v restarting container %s of pod %s/%s", CrashDelay(v.Crashes[s.Name]), s.Name, v.pod.Namespace, v.pod.Name),
		}
	case again && v.Replaced[last.ID]:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: v.waiting}
	default:
		s.State = ended
		return
	}
	s.LastTerminationState = ended
}

func (v *view) previous(last *runtime.Status) corev1.ContainerState {
	if before := attemptOf(v.Observed, last.Name, last.Attempt-1); before != nil {
		return v.terminated(before)
	}
	return corev1.ContainerState{}
}

func (v *view) terminated(c *runtime.Status) corev1.ContainerState {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Reason: "Completed", ContainerID: "containerd://" + c.ID,
		Message:   v.Messages[c.ID],
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

// sameStatus compares two reports.
func sameStatus(a, b corev1.PodStatus) bool { return equality.Semantic.DeepEqual(a, b) }
