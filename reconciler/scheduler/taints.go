package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
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
		if !slices.ContainsFunc(d.tolerations, func(t corev1.Toleration) bool { return toleratesTaint(t, taint) }) {
			return taint
		}
	}
	return nil
}

// toleratesTaint matches by key and effect, of which an empty one is any, and
// by value where the operator is not Exists (k8s.io/api/core/v1, Toleration).
func toleratesTaint(t corev1.Toleration, taint *corev1.Taint) bool {
	switch {
	case t.Effect != "" && t.Effect != taint.Effect, t.Key != "" && t.Key != taint.Key:
		return false
	case t.Operator == corev1.TolerationOpExists:
		return true
	}
	return t.Key != "" && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.Key == y.Key && x.Value == y.Value && x.Effect == y.Effect })
}
