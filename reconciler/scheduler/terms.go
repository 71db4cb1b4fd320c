package scheduler

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// terms are what a pod says about pods near it, read once.
type terms struct {
	needs   []term // required affinity; a pod must match all of them to count
	shuns   []term // required anti-affinity; each for itself
	prefers []term // both kinds of preferred; what is to be far weighs below 0
}

// term is about the pods that it matches, as seen from the nodes that have the
// same value of the label topology as theirs.
type term struct {
	topology   string
	pods       labels.Selector
	namespaces []string        // those, and
	spaces     labels.Selector // those that have such labels
	weight     int64
}

// needWeight is what a required term of a pod that is there weighs for one that
// comes (Kubernetes' default HardPodAffinityWeight).
const needWeight = 1

// termsOf is nil for a pod that says nothing about others.
func termsOf(pod *corev1.Pod) *terms {
	if pod.Spec.Affinity == nil {
		return nil
	}
	var t terms
	if near := pod.Spec.Affinity.PodAffinity; near != nil {
		for i := range near.RequiredDuringSchedulingIgnoredDuringExecution {
			t.needs = append(t.needs, termOf(pod, &near.RequiredDuringSchedulingIgnoredDuringExecution[i], needWeight))
		}
		for i := range near.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &near.PreferredDuringSchedulingIgnoredDuringExecution[i]
			t.prefers = append(t.prefers, termOf(pod, &w.PodAffinityTerm, int64(w.Weight)))
		}
	}
	if far := pod.Spec.Affinity.PodAntiAffinity; far != nil {
		for i := range far.RequiredDuringSchedulingIgnoredDuringExecution {
			t.shuns = append(t.shuns, termOf(pod, &far.RequiredDuringSchedulingIgnoredDuringExecution[i], 1))
		}
		for i := range far.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &far.PreferredDuringSchedulingIgnoredDuringExecution[i]
			t.prefers = append(t.prefers, termOf(pod, &w.PodAffinityTerm, -int64(w.Weight)))
		}
	}
	if len(t.needs) == 0 && len(t.shuns) == 0 && len(t.prefers) == 0 {
		return nil
	}
	return &t
}

func termOf(pod *corev1.Pod, said *corev1.PodAffinityTerm, weight int64) term {
	t := term{topology: said.TopologyKey, namespaces: said.Namespaces, weight: weight}
	t.pods, t.spaces = selectorOf(said.LabelSelector), selectorOf(said.NamespaceSelector)
	if len(said.Namespaces) == 0 && said.NamespaceSelector == nil {
		t.namespaces = []string{pod.Namespace}
	}
	t.add(pod, said.MatchLabelKeys, selection.In)
	t.add(pod, said.MismatchLabelKeys, selection.NotIn)
	return t
}

// add narrows the term down by the pod's own values of some labels. Kubernetes
// writes this into the pod when it is made; here the pod is left as its author
// wrote it, and its labels count as they are.
func (t *term) add(pod *corev1.Pod, keys []string, operator selection.Operator) {
	for _, key := range keys {
		value, ok := pod.Labels[key]
		if !ok {
			continue
		}
		if requirement, err := labels.NewRequirement(key, operator, []string{value}); err == nil {
			t.pods = t.pods.Add(*requirement)
		}
	}
}

// selectorOf matches nothing where there is none, or none that can be read.
func selectorOf(selector *metav1.LabelSelector) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

// identity is what of a pod others' terms look at.
type identity struct {
	namespace string
	labels    labels.Set
	spaces    labels.Set // of the namespace
}

func (t *term) matches(id *identity) bool {
	return (slices.Contains(t.namespaces, id.namespace) || t.spaces.Matches(id.spaces)) && t.pods.Matches(id.labels)
}

// allMatch is false for no terms.
func allMatch(all []term, id *identity) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(t term) bool { return !t.matches(id) })
}

// peerClass is equal for pods that are alike to each other's terms.
func (d *demand) peerClass() string {
	parts := []any{d.namespace, d.labels}
	if d.terms != nil {
		parts = append(parts, d.affinity.PodAffinity, d.affinity.PodAntiAffinity)
	}
	text, _ := json.Marshal(parts) // plain data: it cannot fail
	return string(text)
}
