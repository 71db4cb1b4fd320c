package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// tolerationsOf are a pod's own, and for pods that are not best-effort the one
// for memory pressure, which Kubernetes' control plane adds: what asked for
// memory can cope.
func tolerationsOf(pod *corev1.Pod) []corev1.Toleration {
	if isBestEffort(pod) {
		return pod.Spec.Tolerations
	}
	return append(slices.Clone(pod.Spec.Tolerations), corev1.Toleration{
		Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule,
	})
}

// isBestEffort reports whether a pod asks for nothing of CPU and memory.
func isBestEffort(pod *corev1.Pod) bool {
	asks := func(r corev1.ResourceRequirements) bool {
		for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
			if !list.Cpu().IsZero() || !list.Memory().IsZero() {
				return true
			}
		}
		return false
	}
	if pod.Spec.Resources != nil && asks(*pod.Spec.Resources) {
		return false
	}
	return !slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool { return asks(c.Resources) })
}

// untolerated is the first taint of the node that keeps the pod away, or nil.
func (n *node) untolerated(d *demand) *corev1.Taint {
	for i := range n.taints {
		taint := &n.taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !slices.ContainsFunc(d.tolerations, func(t corev1.Toleration) bool { return schema.Tolerates(t, taint) }) {
			return taint
		}
	}
	return nil
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect })
}
