package replication

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// leastUseful returns the pods in the order in which they are given up, which
// is that of Kubernetes' ActivePodsWithRanks
// (k8s.io/kubernetes/pkg/controller/controller_utils.go).
func leastUseful(pods []*corev1.Pod) []*corev1.Pod {
	onNode := map[string]int{}
	for _, pod := range pods {
		onNode[pod.Spec.NodeName]++
	}
	return slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int {
		readyA, isReadyA := readySince(a)
		readyB, isReadyB := readySince(b)
		c := cmp.Or(
			falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(progress(a), progress(b)),
			falseFirst(isReadyA, isReadyB),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(onNode[b.Spec.NodeName], onNode[a.Spec.NodeName]),
		)
		if c == 0 && isReadyA && isReadyB {
			c = readyB.Compare(readyA)
		}
		return cmp.Or(
			c,
			cmp.Compare(restarts(b), restarts(a)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			strings.Compare(a.Name, b.Name),
		)
	})
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case !a:
		return -1
	}
	return 1
}

func progress(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodRunning:
		return 2
	case corev1.PodUnknown:
		return 1
	}
	return 0
}

func deletionCost(pod *corev1.Pod) int {
	n, err := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

// restarts is those of the container that restarted most.
func restarts(pod *corev1.Pod) int32 {
	most := int32(0)
	for _, c := range pod.Status.ContainerStatuses {
		most = max(most, c.RestartCount)
	}
	return most
}
