package schema

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// QOSClass is that of Kubernetes' "Quality of Service Classes": what the pod as
// a whole asks for counts, where it asks for anything.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	asked := []corev1.ResourceRequirements{}
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		asked = append(asked, *r)
	} else {
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			asked = append(asked, c.Resources)
		}
	}
	guaranteed, asks := true, false
	for _, r := range asked {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := r.Requests[name], r.Limits[name]
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
