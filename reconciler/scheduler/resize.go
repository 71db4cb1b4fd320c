package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// takenBy is what a bound pod is counted with while it is given other
// resources: the most of what it asks for, was given and has. What its node can
// never give it does not count (Kubernetes: "Resize CPU and Memory Resources
// assigned to Containers").
func takenBy(pod *corev1.Pod) (requests, weight amount) {
	requests, weight = requestsOf(pod)
	if !resizing(pod) {
		return requests, weight
	}
	given, givenWeight := requestsOf(withRequests(pod, pod.Status.AllocatedResources, allocated))
	var whole corev1.ResourceList
	if pod.Status.Resources != nil {
		whole = pod.Status.Resources.Requests
	}
	has, hasWeight := requestsOf(withRequests(pod, whole, actual))
	given, givenWeight = given.max(has), givenWeight.max(hasWeight)
	if infeasible(pod) {
		return given, givenWeight
	}
	return requests.max(given), weight.max(givenWeight)
}

func allocated(s *corev1.ContainerStatus) corev1.ResourceList { return s.AllocatedResources }

func actual(s *corev1.ContainerStatus) corev1.ResourceList {
	if s.Resources == nil {
		return nil
	}
	return s.Resources.Requests
}

func infeasible(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonInfeasible
	})
}

// resizing reports whether a pod was given, or has, something else than it asks
// for, as far as its node has said.
func resizing(pod *corev1.Pod) bool {
	if whole := pod.Spec.Resources; whole != nil {
		if differ(whole.Requests, pod.Status.AllocatedResources) || pod.Status.Resources != nil && differ(whole.Requests, pod.Status.Resources.Requests) {
			return true
		}
	}
	return containersResizing(pod.Spec.InitContainers, pod.Status.InitContainerStatuses) ||
		containersResizing(pod.Spec.Containers, pod.Status.ContainerStatuses)
}

func containersResizing(list []corev1.Container, statuses []corev1.ContainerStatus) bool {
	for i := range list {
		s := statusOf(statuses, list[i].Name)
		if s != nil && (differ(list[i].Resources.Requests, allocated(s)) || differ(list[i].Resources.Requests, actual(s))) {
			return true
		}
	}
	return false
}

// differ compares what is asked for with what a status says, if it does.
func differ(asked, said corev1.ResourceList) bool {
	return len(said) > 0 && (asked.Cpu().Cmp(*said.Cpu()) != 0 || asked.Memory().Cmp(*said.Memory()) != 0)
}

func statusOf(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// withRequests is a pod that asks for what its status says, where it does.
func withRequests(pod *corev1.Pod, whole corev1.ResourceList, of func(*corev1.ContainerStatus) corev1.ResourceList) *corev1.Pod {
	other := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: asSaid(pod.Spec.InitContainers, pod.Status.InitContainerStatuses, of),
		Containers:     asSaid(pod.Spec.Containers, pod.Status.ContainerStatuses, of),
		Resources:      pod.Spec.Resources,
	}}
	if pod.Spec.Resources != nil && len(whole) > 0 {
		other.Spec.Resources = &corev1.ResourceRequirements{Requests: whole}
	}
	return other
}

func asSaid(list []corev1.Container, statuses []corev1.ContainerStatus, of func(*corev1.ContainerStatus) corev1.ResourceList) []corev1.Container {
	list = slices.Clone(list)
	for i := range list {
		if s := statusOf(statuses, list[i].Name); s != nil && len(of(s)) > 0 {
			list[i].Resources.Requests = of(s)
		}
	}
	return list
}
