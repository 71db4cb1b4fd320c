package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// affinityWeight is what the best of the nodes has by what a pod prefers, in the
// units of node.score: twice what it has for being empty, and as much as for
// having no other pod of the controller (Kubernetes' default weights).
const affinityWeight = 2 * 10 * 100

// nodeAffinityOf is what a pod requires and prefers of a node's labels and
// name; nil where it does not. Terms that cannot be read match no node.
func nodeAffinityOf(pod *corev1.Pod) (requires *nodeaffinity.LazyErrorNodeSelector, prefers *nodeaffinity.PreferredSchedulingTerms) {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return nil, nil
	}
	affinity := pod.Spec.Affinity.NodeAffinity
	if terms := affinity.RequiredDuringSchedulingIgnoredDuringExecution; terms != nil {
		requires = nodeaffinity.NewLazyErrorNodeSelector(terms)
	}
	if terms := affinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		prefers, _ = nodeaffinity.NewPreferredSchedulingTerms(terms)
	}
	return requires, prefers
}

// matches reports whether the node is one that the pod asks for.
func (n *node) matches(d *demand) bool {
	for k, v := range d.selector {
		if have, ok := n.object.Labels[k]; !ok || have != v {
			return false
		}
	}
	if d.requires == nil {
		return true
	}
	matches, _ := d.requires.Match(n.object)
	return matches
}

// preferNodes adds to the scores of nodes by the terms that they match: most to
// the one with the highest sum of weights, and to the others in proportion.
func preferNodes(d *demand, nodes []*node, scores []int64) {
	if d.prefers == nil {
		return
	}
	sums := make([]int64, len(nodes))
	most := int64(0)
	for i, n := range nodes {
		sums[i] = d.prefers.Score(n.object)
		most = max(most, sums[i])
	}
	if most == 0 {
		return
	}
	for i := range scores {
		scores[i] += affinityWeight * sums[i] / most
	}
}
