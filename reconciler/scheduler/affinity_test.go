package scheduler_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

func (c *cluster) label(key schema.Key, name, value string) {
	c.t.Helper()
	_, err := c.all.Mutate(c.t.Context(), key, func(o schema.Object) error {
		labels := map[string]string{name: value}
		for k, v := range o.GetLabels() {
			if k != name {
				labels[k] = v
			}
		}
		o.SetLabels(labels)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) wantPlace(pod, node, why string) {
	c.t.Helper()
	if on, said := c.placeOf(pod); on != node || node == "" && said != why {
		c.t.Errorf("%s is on %q: %s; want %q: %s", pod, on, said, node, why)
	}
}

// TestAffinityWakes: a pod that fits nowhere by its affinity, or by that of
// others, is placed as soon as what it waits for happens: a pod comes or changes
// its labels, or a node, a namespace or the pod itself does.
func TestAffinityWakes(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.node("n1", "8")
		c.node("n2", "8")
		c.label(schema.Nodes.Key("", "n1"), "zone", "a")
		c.label(schema.Nodes.Key("", "n2"), "zone", "b")
		const (
			nobodyNear = "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."
			shunned    = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't satisfy existing pods anti-affinity rules."
		)
		make := func(name, label string, affinity *corev1.Affinity) {
			p := pod(name, "100m")
			p.Labels, p.Spec.Affinity = map[string]string{"app": label}, affinity
			c.create(p)
		}
		term := func(label string) corev1.PodAffinityTerm {
			return corev1.PodAffinityTerm{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": label}}}
		}
		near := func(label string) *corev1.Affinity {
			return &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term(label)}}}
		}
		only := func(label, value string) *corev1.Affinity {
			return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: label, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}},
			}}}
		}

		make("follower", "", near("db"))
		c.wantPlace("follower", "", nobodyNear)
		make("other", "other", only("zone", "a"))
		c.wantPlace("follower", "", nobodyNear)
		make("db", "db", only("zone", "b"))
		c.wantPlace("follower", "n2", "")

		make("second", "", near("cache"))
		c.wantPlace("second", "", nobodyNear)
		c.label(schema.Pods.Key("default", "other"), "app", "cache")
		c.wantPlace("second", "n1", "")

		make("fast", "", only("disk", "ssd"))
		c.wantPlace("fast", "", "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")
		c.label(schema.Nodes.Key("", "n1"), "disk", "ssd")
		c.wantPlace("fast", "n1", "")

		guard := only("zone", "a")
		guarded := term("web")
		guarded.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "trusted", Operator: metav1.LabelSelectorOpDoesNotExist}}}
		guard.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{guarded}}
		make("guard", "", guard)
		c.wantPlace("guard", "n1", "")
		make("web", "web", only("zone", "a"))
		make("web-2", "web", only("zone", "a"))
		c.wantPlace("web", "", shunned)
		c.label(schema.Pods.Key("default", "web"), "app", "api")
		c.wantPlace("web", "n1", "")
		c.wantPlace("web-2", "", shunned)
		c.label(schema.Namespaces.Key("", "default"), "trusted", "yes")
		c.wantPlace("web-2", "n1", "")

		alone := only("zone", "a")
		alone.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term("api")}}
		make("alone", "", alone)
		c.wantPlace("alone", "", "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod anti-affinity rules.")
		c.label(schema.Pods.Key("default", "web"), "app", "old")
		c.wantPlace("alone", "n1", "")
	})
}
