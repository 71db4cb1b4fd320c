package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/schema"
)

// world is what a State has taken in, as plain lists: the reference reads all
// of it for every question.
type world struct {
	nodes      map[string]*corev1.Node
	pods       map[string]*corev1.Pod
	namespaces map[string]*corev1.Namespace
}

// about reports whether a term of one pod is about another (API comments of
// PodAffinityTerm).
func (w *world) about(owner *corev1.Pod, t corev1.PodAffinityTerm, pod *corev1.Pod) bool {
	inSpace := len(t.Namespaces) == 0 && t.NamespaceSelector == nil && pod.Namespace == owner.Namespace || slices.Contains(t.Namespaces, pod.Namespace)
	if t.NamespaceSelector != nil {
		selector, _ := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		inSpace = inSpace || selector.Matches(labels.Set(w.namespaces[pod.Namespace].Labels))
	}
	if !inSpace || t.LabelSelector == nil {
		return false
	}
	selector, _ := metav1.LabelSelectorAsSelector(t.LabelSelector)
	for _, key := range t.MatchLabelKeys {
		if value, ok := owner.Labels[key]; ok && pod.Labels[key] != value {
			return false
		}
	}
	for _, key := range t.MismatchLabelKeys {
		if value, ok := owner.Labels[key]; ok && pod.Labels[key] == value {
			return false
		}
	}
	return selector.Matches(labels.Set(pod.Labels))
}

// together reports whether two nodes have the same value of a label.
func (w *world) together(a, b, label string) bool {
	x, ok := w.nodes[a].Labels[label]
	y, also := w.nodes[b].Labels[label]
	return ok && also && x == y
}

// refusal is what keeps a pod from a node, and worth what speaks for it.
func (w *world) judge(pod *corev1.Pod, node string) (refusal string, worth int64) {
	mine, against := podAffinity(pod.DeepCopy())
	needs := mine.RequiredDuringSchedulingIgnoredDuringExecution
	matchesAll := func(p *corev1.Pod) bool {
		return !slices.ContainsFunc(needs, func(t corev1.PodAffinityTerm) bool { return !w.about(pod, t, p) })
	}
	anywhere, everyTerm, allLabels := false, true, true
	for _, t := range needs {
		if _, ok := w.nodes[node].Labels[t.TopologyKey]; !ok {
			allLabels = false
		}
		found := false
		for _, p := range w.pods {
			if !matchesAll(p) || w.nodes[p.Spec.NodeName] == nil {
				continue
			}
			for _, of := range needs {
				anywhere = anywhere || w.together(p.Spec.NodeName, p.Spec.NodeName, of.TopologyKey)
			}
			found = found || w.together(p.Spec.NodeName, node, t.TopologyKey)
		}
		everyTerm = everyTerm && found
	}
	shuns, shunned := false, false
	for _, p := range w.pods {
		if w.nodes[p.Spec.NodeName] == nil {
			continue
		}
		theirs, theirAgainst := podAffinity(p.DeepCopy())
		here := func(owner *corev1.Pod, t corev1.PodAffinityTerm, other *corev1.Pod) bool {
			return w.about(owner, t, other) && w.together(p.Spec.NodeName, node, t.TopologyKey)
		}
		for _, t := range against.RequiredDuringSchedulingIgnoredDuringExecution {
			shuns = shuns || here(pod, t, p)
		}
		for _, t := range theirAgainst.RequiredDuringSchedulingIgnoredDuringExecution {
			shunned = shunned || here(p, t, pod)
		}
		add := func(owner *corev1.Pod, t corev1.PodAffinityTerm, other *corev1.Pod, weight int32) {
			if here(owner, t, other) {
				worth += int64(weight)
			}
		}
		for _, t := range theirs.RequiredDuringSchedulingIgnoredDuringExecution {
			add(p, t, pod, 1)
		}
		for _, t := range mine.PreferredDuringSchedulingIgnoredDuringExecution {
			add(pod, t.PodAffinityTerm, p, t.Weight)
		}
		for _, t := range against.PreferredDuringSchedulingIgnoredDuringExecution {
			add(pod, t.PodAffinityTerm, p, -t.Weight)
		}
		for _, t := range theirs.PreferredDuringSchedulingIgnoredDuringExecution {
			add(p, t.PodAffinityTerm, pod, t.Weight)
		}
		for _, t := range theirAgainst.PreferredDuringSchedulingIgnoredDuringExecution {
			add(p, t.PodAffinityTerm, pod, -t.Weight)
		}
	}
	switch {
	case len(needs) > 0 && (!allLabels || !everyTerm && (anywhere || !matchesAll(pod))):
		return "node(s) didn't match pod affinity rules", 0
	case shuns:
		return "node(s) didn't match pod anti-affinity rules", 0
	case shunned:
		return "node(s) didn't satisfy existing pods anti-affinity rules", 0
	}
	return "", worth
}

func drawLabels(t *rapid.T, what string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if value := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, what+" "+key); value != "" {
			out[key] = value
		}
	}
	return out
}

func drawSelector(t *rapid.T, what string, keys ...string) *metav1.LabelSelector {
	if rapid.IntRange(0, 3).Draw(t, what) == 0 {
		return nil
	}
	return &metav1.LabelSelector{MatchLabels: drawLabels(t, what, keys...)}
}

func drawTerm(t *rapid.T) corev1.PodAffinityTerm {
	term := corev1.PodAffinityTerm{
		LabelSelector:     drawSelector(t, "term", "app", "version"),
		NamespaceSelector: drawSelector(t, "term's namespaces", "team"),
		TopologyKey:       rapid.SampledFrom([]string{zone, corev1.LabelHostname}).Draw(t, "topology"),
	}
	if rapid.Bool().Draw(t, "named") {
		term.Namespaces = []string{rapid.SampledFrom([]string{"default", "shop"}).Draw(t, "name")}
	}
	switch rapid.IntRange(0, 5).Draw(t, "keys") {
	case 0:
		term.MatchLabelKeys = []string{"version"}
	case 1:
		term.MismatchLabelKeys = []string{"version"}
	}
	return term
}

func drawPod(t *rapid.T, name string) *corev1.Pod {
	p := newPod(name, "", "", in(rapid.SampledFrom([]string{"default", "shop"}).Draw(t, "namespace")))
	p.Labels = drawLabels(t, "pod", "app", "version")
	for range rapid.IntRange(0, 2).Draw(t, "terms") {
		term := drawTerm(t)
		a, b := podAffinity(p)
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, term)
		case 1:
			b.RequiredDuringSchedulingIgnoredDuringExecution = append(b.RequiredDuringSchedulingIgnoredDuringExecution, term)
		case 2:
			rather(3, term)(p)
		case 3:
			rather(-2, term)(p)
		}
	}
	return p
}

// TestPeersAgainstReference lets nodes, pods and namespaces come, change and go,
// and asks after each step where a pod could be, with the words and the worth
// that a reference finds by reading everything.
func TestPeersAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		w := &world{map[string]*corev1.Node{}, map[string]*corev1.Pod{}, map[string]*corev1.Namespace{}}
		setNamespace := func(name string) {
			w.namespaces[name] = namespace(name)
			w.namespaces[name].Labels = drawLabels(t, "namespace", "team")
			s.SetNamespace(name, w.namespaces[name])
		}
		setNamespace("default")
		setNamespace("shop")
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "which"))
			key := schema.Pods.Key("", name) // one namespace's worth of keys: a pod may change its namespace
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				w.nodes["n"+name] = newNode("n"+name, "4", "4Gi", "10")
				w.nodes["n"+name].Labels = drawLabels(t, "node", zone, corev1.LabelHostname)
				s.SetNode("n"+name, w.nodes["n"+name])
			case 2:
				w.pods[name] = drawPod(t, name)
				w.pods[name].Spec.NodeName = fmt.Sprint("n", rapid.IntRange(1, 4).Draw(t, "on"))
				w.pods[name].UID += "-new"
				s.SetPod(key, nil)
				s.SetPod(key, w.pods[name])
			case 3:
				if w.pods[name] != nil {
					w.pods[name] = w.pods[name].DeepCopy()
					w.pods[name].Labels = drawLabels(t, "pod", "app", "version")
					s.SetPod(key, w.pods[name])
				}
			case 4:
				if rapid.Bool().Draw(t, "a pod goes") {
					delete(w.pods, name)
					s.SetPod(key, nil)
				} else {
					delete(w.nodes, "n"+name)
					s.SetNode("n"+name, nil)
				}
			case 5:
				setNamespace(rapid.SampledFrom([]string{"default", "shop"}).Draw(t, "namespace"))
			}
			check(t, s, w, drawPod(t, "asked"))
		}
	})
}

func check(t *rapid.T, s *State, w *world, pod *corev1.Pod) {
	d := demandOf(pod)
	d.around = s.surroundingsOf(&d)
	type verdict struct {
		Refusal string
		Worth   int64
	}
	want, got := map[string]verdict{}, map[string]verdict{}
	for name := range w.nodes {
		refusal, worth := w.judge(pod, name)
		want[name] = verdict{refusal, worth}
	}
	for _, n := range s.known() {
		v := verdict{Refusal: n.hasPeers(&d)}
		if v.Refusal == "" && d.around != nil {
			v.Worth = d.around.worth.at(n)
		}
		got[n.name] = v
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}
