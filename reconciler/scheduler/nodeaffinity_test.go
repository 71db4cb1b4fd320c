package scheduler

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

func requirement(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: operator, Values: values}
}

func byLabels(all ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: all}
}

func byFields(all ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchFields: all}
}

func nodeAffinity(p *corev1.Pod) *corev1.NodeAffinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.NodeAffinity == nil {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	return p.Spec.Affinity.NodeAffinity
}

// wants requires one of the terms.
func wants(terms ...corev1.NodeSelectorTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		nodeAffinity(p).RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
	}
}

func likes(weight int32, term corev1.NodeSelectorTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := nodeAffinity(p)
		a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: weight, Preference: term})
	}
}

func labeled(pairs ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Labels = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			n.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

// fitting are the names of the nodes where a pod can be.
func fitting(s *State, pod *corev1.Pod) []string {
	var out []string
	for _, c := range s.Candidates(pod) {
		if len(c.Refusals) == 0 {
			out = append(out, c.Node)
		}
	}
	slices.Sort(out)
	return out
}

// TestNodeAffinity: what a pod requires of a node's labels and name, one case
// for each operator and for how requirements and terms go together.
func TestNodeAffinity(t *testing.T) {
	const in, notIn = corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn
	s := NewState()
	for _, n := range []*corev1.Node{
		newNode("n1", "4", "4Gi", "10", labeled("disk", "ssd", "cores", "4", "zone", "a")),
		newNode("n2", "4", "4Gi", "10", labeled("disk", "hdd", "cores", "16", "zone", "a")),
		newNode("n3", "4", "4Gi", "10", labeled("cores", "many", "zone", "b")),
		newNode("n4", "4", "4Gi", "10"),
	} {
		s.SetNode(n.Name, n)
	}
	for name, test := range map[string]struct {
		pod  func(*corev1.Pod)
		want []string
	}{
		"in":                 {wants(byLabels(requirement("disk", in, "ssd", "nvme"))), []string{"n1"}},
		"not in":             {wants(byLabels(requirement("disk", notIn, "ssd"))), []string{"n2", "n3", "n4"}},
		"exists":             {wants(byLabels(requirement("disk", corev1.NodeSelectorOpExists))), []string{"n1", "n2"}},
		"does not exist":     {wants(byLabels(requirement("disk", corev1.NodeSelectorOpDoesNotExist))), []string{"n3", "n4"}},
		"greater":            {wants(byLabels(requirement("cores", corev1.NodeSelectorOpGt, "4"))), []string{"n2"}},
		"less":               {wants(byLabels(requirement("cores", corev1.NodeSelectorOpLt, "16"))), []string{"n1"}},
		"all of a term":      {wants(byLabels(requirement("zone", in, "a"), requirement("disk", notIn, "ssd"))), []string{"n2"}},
		"one of the terms":   {wants(byLabels(requirement("disk", in, "ssd")), byLabels(requirement("zone", in, "b"))), []string{"n1", "n3"}},
		"name":               {wants(byFields(requirement("metadata.name", in, "n2"))), []string{"n2"}},
		"other names":        {wants(byFields(requirement("metadata.name", notIn, "n2"))), []string{"n1", "n3", "n4"}},
		"an empty term":      {wants(corev1.NodeSelectorTerm{}), nil},
		"no terms":           {wants(), nil},
		"an unreadable term": {wants(byLabels(requirement("cores", corev1.NodeSelectorOpGt, "x"))), nil},
		"and an unreadable":  {wants(byLabels(requirement("cores", corev1.NodeSelectorOpGt, "x")), byLabels(requirement("zone", in, "b"))), []string{"n3"}},
		"labels and names": {
			wants(corev1.NodeSelectorTerm{MatchExpressions: byLabels(requirement("zone", in, "a")).MatchExpressions, MatchFields: byFields(requirement("metadata.name", notIn, "n2")).MatchFields}),
			[]string{"n1"},
		},
		"and a selector": {
			func(p *corev1.Pod) {
				wants(byLabels(requirement("zone", in, "a")))(p)
				p.Spec.NodeSelector = map[string]string{"disk": "hdd"}
			},
			[]string{"n2"},
		},
		"only preferred": {likes(100, byLabels(requirement("disk", in, "ssd"))), []string{"n1", "n2", "n3", "n4"}},
	} {
		if diff := cmp.Diff(test.want, fitting(s, newPod("p", "", "", test.pod))); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", name, diff)
		}
	}
	got := Schedule([]*corev1.Pod{
		newPod("a", "", "", wants(byLabels(requirement("disk", in, "tape")))),
		newPod("b", "", "", wants(byLabels(requirement("disk", in, "hdd")))), // not refused by what was said of a
	}, s)
	want := map[string]string{"a": "0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector.", "b": "n2"}
	if diff := cmp.Diff(want, summary(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPreferredNodes: of the nodes that fit, the one whose matching terms weigh
// most, however full it is.
func TestPreferredNodes(t *testing.T) {
	const in = corev1.NodeSelectorOpIn
	ssd, zone := byLabels(requirement("disk", in, "ssd")), byLabels(requirement("zone", in, "b"))
	for name, test := range map[string]struct {
		change []func(*corev1.Pod)
		want   string
	}{
		"nothing":           {nil, "n3"},
		"a term":            {[]func(*corev1.Pod){likes(1, ssd)}, "n1"},
		"the heavier":       {[]func(*corev1.Pod){likes(10, ssd), likes(20, zone)}, "n2"},
		"the sum":           {[]func(*corev1.Pod){likes(15, ssd), likes(20, zone), likes(15, byFields(requirement("metadata.name", in, "n1")))}, "n1"},
		"none matches":      {[]func(*corev1.Pod){likes(10, byLabels(requirement("disk", in, "tape")))}, "n3"},
		"an empty term":     {[]func(*corev1.Pod){likes(10, corev1.NodeSelectorTerm{})}, "n3"},
		"within what must":  {[]func(*corev1.Pod){likes(10, ssd), wants(zone)}, "n2"},
		"before it is full": {[]func(*corev1.Pod){likes(10, ssd), func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = resources("5", "") }}, "n3"},
	} {
		s := NewState()
		for _, n := range []*corev1.Node{
			newNode("n1", "4", "4Gi", "10", labeled("disk", "ssd", "zone", "a")),
			newNode("n2", "4", "4Gi", "10", labeled("zone", "b")),
			newNode("n3", "16", "16Gi", "10"),
		} {
			s.SetNode(n.Name, n)
		}
		there := newPod("there", "2", "2Gi", on("n1"))
		s.SetPod(schema.KeyOf(there), there)
		if got := Schedule([]*corev1.Pod{newPod("p", "100m", "", test.change...)}, s); len(got.Bindings) != 1 || got.Bindings[0].Node != test.want {
			t.Errorf("%s: %v, want %s", name, summary(got), test.want)
		}
	}
}
