package nodeagent

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Phase sums a pod's containers up (Kubernetes: Pod Lifecycle, "Pod phase").
// ending says that nothing of the pod is started again, whatever it asks for.
// Pure.
func Phase(pod *corev1.Pod, ending bool, init, containers []corev1.ContainerStatus) corev1.PodPhase {
	begun := slices.ContainsFunc(containers, func(c corev1.ContainerStatus) bool { return c.ContainerID != "" })
	t := tally{pod: pod, ending: ending}
	for i := range pod.Spec.InitContainers {
		if s := statusNamed(init, pod.Spec.InitContainers[i].Name); s != nil {
			t.initContainer(&pod.Spec.InitContainers[i], s, begun)
		}
	}
	for i := range pod.Spec.Containers {
		if s := statusNamed(containers, pod.Spec.Containers[i].Name); s != nil {
			t.container(&pod.Spec.Containers[i], s)
		}
	}
	switch {
	case t.broken:
		return corev1.PodFailed
	case t.waiting > 0:
		return corev1.PodPending
	case t.running > 0 || t.between > 0:
		return corev1.PodRunning
	case t.failed > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// tally counts containers by what they mean for the phase.
type tally struct {
	pod    *corev1.Pod
	ending bool

	broken  bool // an init container failed for good
	waiting int  // to run for the first time
	running int
	between int // two runs
	failed  int // for good
}

// initContainer counts one that is to end before the others start, or a
// sidecar, which counts as long as it runs. Once the others have begun, what
// is not known of an init container any more is not waited for.
func (t *tally) initContainer(c *corev1.Container, s *corev1.ContainerStatus, begun bool) {
	ended := s.State.Terminated
	switch {
	case isSidecar(c):
		if s.State.Running != nil {
			t.running++
		}
		started := s.State.Running != nil && s.Started != nil && *s.Started
		if !begun && !started && ended == nil {
			t.waiting++
		}
	case ended != nil && ended.ExitCode == 0:
	case ended != nil && !t.again(c, ended):
		t.broken = true
	case !begun:
		t.waiting++
	case s.State.Running != nil:
		t.running++
	}
}

func (t *tally) container(c *corev1.Container, s *corev1.ContainerStatus) {
	ended := s.State.Terminated
	switch {
	case s.State.Running != nil:
		t.running++
	case ended != nil && t.again(c, ended), ended == nil && s.LastTerminationState.Terminated != nil:
		t.between++
	case ended == nil:
		t.waiting++
	case ended.ExitCode != 0:
		t.failed++
	}
}

func (t *tally) again(c *corev1.Container, ended *corev1.ContainerStateTerminated) bool {
	return !t.ending && restartsAfter(t.pod, c, int(ended.ExitCode))
}

func statusNamed(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }
