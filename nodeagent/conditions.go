package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ours are the conditions that the agent sets; those of others are kept as
// they are in the pod.
var ours = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.AllContainersRestarting, corev1.DisruptionTarget,
	corev1.PodResizePending, corev1.PodResizeInProgress,
}

// podConditions sets the agent's conditions and adds those that others gave
// the pod (PodScheduled, readiness gates). before dates those that did not
// change.
func podConditions(pod *corev1.Pod, o Observed, s corev1.PodStatus, before []corev1.PodCondition, now time.Time) []corev1.PodCondition {
	ready := containersReady(pod, s)
	conditions := []corev1.PodCondition{
		sandboxReady(o), initialized(pod, s, before),
		withType(ready, corev1.ContainersReady), podReady(pod, ready),
	}
	if canRestartAll(pod) {
		conditions = append(conditions, allRestarting(pod, o, s))
	}
	if o.Doom != nil && o.Doom.Disrupted {
		conditions = append(conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: o.Doom.Message,
		})
	}
	if !terminal(s.Phase) {
		conditions = append(conditions, o.Resize.conditions()...)
	}
	for i := range conditions {
		conditions[i].ObservedGeneration = pod.Generation
		conditions[i].LastTransitionTime = *stamp(now)
		if b := conditionOf(before, conditions[i].Type); b != nil && b.Status == conditions[i].Status {
			conditions[i].LastTransitionTime = b.LastTransitionTime
		}
	}
	if b := conditionOf(before, corev1.DisruptionTarget); b != nil && conditionOf(conditions, b.Type) == nil {
		conditions = append(conditions, *b)
	}
	for _, c := range pod.Status.Conditions {
		if !slices.Contains(ours, c.Type) {
			conditions = append(conditions, c)
		}
	}
	return conditions
}

func sandboxReady(o Observed) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
	if !o.Sandbox {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "PodSandboxNotReady", o.Failures[""].Message
	}
	return c
}

// initialized is true once and for all when the init containers are through,
// or one of the others was started.
func initialized(pod *corev1.Pod, s corev1.PodStatus, before []corev1.PodCondition) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if s.Phase == corev1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	begun := slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.ContainerID != "" })
	was := conditionOf(before, corev1.PodInitialized)
	if begun || was != nil && was.Status == corev1.ConditionTrue {
		return c
	}
	var missing []string
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		status := statusNamed(s.InitContainerStatuses, spec.Name)
		through := status != nil && (!isSidecar(spec) && status.Ready || isSidecar(spec) && status.Started != nil && *status.Started)
		if !through {
			missing = append(missing, spec.Name)
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %v", missing)
	}
	return c
}

// containersReady is without its type, because readiness begins with it.
func containersReady(pod *corev1.Pod, s corev1.PodStatus) corev1.PodCondition {
	switch s.Phase {
	case corev1.PodSucceeded:
		return corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodCompleted"}
	case corev1.PodFailed:
		return corev1.PodCondition{Status: corev1.ConditionFalse, Reason: "PodFailed"}
	}
	var unready []string
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; isSidecar(c) && !statusNamed(s.InitContainerStatuses, c.Name).Ready {
			unready = append(unready, c.Name)
		}
	}
	for _, c := range s.ContainerStatuses {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	if len(unready) > 0 {
		return corev1.PodCondition{
			Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: fmt.Sprintf("containers with unready status: %v", unready),
		}
	}
	return corev1.PodCondition{Status: corev1.ConditionTrue}
}

// podReady adds the readiness gates, whose conditions others set.
func podReady(pod *corev1.Pod, ready corev1.PodCondition) corev1.PodCondition {
	ready.Type = corev1.PodReady
	if ready.Status != corev1.ConditionTrue {
		return ready
	}
	var missing []string
	for _, gate := range pod.Spec.ReadinessGates {
		switch c := conditionOf(pod.Status.Conditions, gate.ConditionType); {
		case c == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case c.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
		}
	}
	if len(missing) > 0 {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return ready
}

func allRestarting(pod *corev1.Pod, o Observed, s corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch r := roundsOf(pod, o); {
	case s.Phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case s.Phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case r.cause != nil && len(r.present(o).Containers) == 0:
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}

func conditionOf(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

func withType(c corev1.PodCondition, t corev1.PodConditionType) corev1.PodCondition {
	c.Type = t
	return c
}
