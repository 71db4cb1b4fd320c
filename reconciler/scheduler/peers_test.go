package scheduler

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

const zone = "zone"

// app has labels "app" and, where it is given, "version".
func app(name string, version ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": name}
		if len(version) > 0 {
			p.Labels["version"] = version[0]
		}
	}
}

func in(namespace string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Namespace = namespace }
}

// apps is a term about the pods of an app.
func apps(name, topology string, change ...func(*corev1.PodAffinityTerm)) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, TopologyKey: topology}
	for _, c := range change {
		c(&t)
	}
	return t
}

func podAffinity(p *corev1.Pod) (near *corev1.PodAffinity, far *corev1.PodAntiAffinity) {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity = &corev1.PodAffinity{}, &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity
}

func near(terms ...corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		near, _ := podAffinity(p)
		near.RequiredDuringSchedulingIgnoredDuringExecution = terms
	}
}

func far(terms ...corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		_, far := podAffinity(p)
		far.RequiredDuringSchedulingIgnoredDuringExecution = terms
	}
}

// rather prefers to be near, or with a negative weight far.
func rather(weight int32, term corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		near, far := podAffinity(p)
		if weight > 0 {
			near.PreferredDuringSchedulingIgnoredDuringExecution = append(near.PreferredDuringSchedulingIgnoredDuringExecution, corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: term})
		} else {
			far.PreferredDuringSchedulingIgnoredDuringExecution = append(far.PreferredDuringSchedulingIgnoredDuringExecution, corev1.WeightedPodAffinityTerm{Weight: -weight, PodAffinityTerm: term})
		}
	}
}

func namespace(name string, pairs ...string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i < len(pairs); i += 2 {
		n.Labels[pairs[i]] = pairs[i+1]
	}
	return n
}

// inZones is a state of four nodes, of which n1 and n2 are in the zone a, n3 in
// b and n4 in none, and two namespaces.
func inZones(there ...*corev1.Pod) *State {
	s := NewState()
	for _, n := range []*corev1.Namespace{namespace("default"), namespace("shop", "team", "shop")} {
		s.SetNamespace(n.Name, n)
	}
	for _, p := range there {
		s.SetPod(schema.KeyOf(p), p)
	}
	for _, n := range []*corev1.Node{
		newNode("n1", "4", "4Gi", "10", labeled(corev1.LabelHostname, "n1", zone, "a")),
		newNode("n2", "4", "4Gi", "10", labeled(corev1.LabelHostname, "n2", zone, "a")),
		newNode("n3", "4", "4Gi", "10", labeled(corev1.LabelHostname, "n3", zone, "b")),
		newNode("n4", "4", "4Gi", "10", labeled(corev1.LabelHostname, "n4")),
	} {
		s.SetNode(n.Name, n)
	}
	return s
}

// TestPodAffinity: where a pod can be beside those that are there.
func TestPodAffinity(t *testing.T) {
	spaces := func(names ...string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.Namespaces = names }
	}
	spacesWith := func(labels map[string]string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: labels} }
	}
	same := func(keys ...string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.MatchLabelKeys = keys }
	}
	other := func(keys ...string) func(*corev1.PodAffinityTerm) {
		return func(t *corev1.PodAffinityTerm) { t.MismatchLabelKeys = keys }
	}
	any := func(t *corev1.PodAffinityTerm) { t.LabelSelector = &metav1.LabelSelector{} }
	none := func(t *corev1.PodAffinityTerm) { t.LabelSelector = nil }
	db := newPod("db", "", "", on("n1"), app("db", "1"))
	cache := newPod("cache", "", "", on("n3"), app("cache"))
	all := []string{"n1", "n2", "n3", "n4"}
	for name, test := range map[string]struct {
		there []*corev1.Pod
		pod   []func(*corev1.Pod)
		want  []string
	}{
		"near, by host":           {[]*corev1.Pod{db}, []func(*corev1.Pod){near(apps("db", corev1.LabelHostname))}, []string{"n1"}},
		"near, by zone":           {[]*corev1.Pod{db}, []func(*corev1.Pod){near(apps("db", zone))}, []string{"n1", "n2"}},
		"near nobody":             {nil, []func(*corev1.Pod){near(apps("db", zone))}, nil},
		"near any pod":            {[]*corev1.Pod{cache}, []func(*corev1.Pod){near(apps("", zone, any))}, []string{"n3"}},
		"near no pods at all":     {[]*corev1.Pod{db}, []func(*corev1.Pod){near(apps("", zone, none))}, nil},
		"near one pod for both":   {[]*corev1.Pod{db, cache}, []func(*corev1.Pod){near(apps("db", zone), apps("cache", zone))}, nil},
		"both terms of one pod":   {[]*corev1.Pod{db}, []func(*corev1.Pod){near(apps("db", zone), apps("db", corev1.LabelHostname))}, []string{"n1"}},
		"the first of its kind":   {nil, []func(*corev1.Pod){app("db"), near(apps("db", zone))}, []string{"n1", "n2", "n3"}},
		"the second of its kind":  {[]*corev1.Pod{db}, []func(*corev1.Pod){app("db"), near(apps("db", zone))}, []string{"n1", "n2"}},
		"a first, and half of it": {nil, []func(*corev1.Pod){app("db"), near(apps("db", zone), apps("cache", zone))}, nil},
		"first where one is no where": {
			[]*corev1.Pod{newPod("db", "", "", on("n4"), app("db"))},
			[]func(*corev1.Pod){app("db"), near(apps("db", zone))},
			[]string{"n1", "n2", "n3"},
		},
		"far, by host":             {[]*corev1.Pod{db}, []func(*corev1.Pod){far(apps("db", corev1.LabelHostname))}, []string{"n2", "n3", "n4"}},
		"far, by zone":             {[]*corev1.Pod{db}, []func(*corev1.Pod){far(apps("db", zone))}, []string{"n3", "n4"}},
		"far from either":          {[]*corev1.Pod{db, cache}, []func(*corev1.Pod){far(apps("db", corev1.LabelHostname), apps("cache", zone))}, []string{"n2", "n4"}},
		"far from its own kind":    {nil, []func(*corev1.Pod){app("db"), far(apps("db", zone))}, all},
		"near and far":             {[]*corev1.Pod{db}, []func(*corev1.Pod){near(apps("db", zone)), far(apps("db", corev1.LabelHostname))}, []string{"n2"}},
		"shunned":                  {[]*corev1.Pod{newPod("x", "", "", on("n1"), far(apps("db", zone)))}, []func(*corev1.Pod){app("db")}, []string{"n3", "n4"}},
		"shunned, others are":      {[]*corev1.Pod{newPod("x", "", "", on("n1"), far(apps("db", zone)))}, []func(*corev1.Pod){app("web")}, all},
		"shunned by one nowhere":   {[]*corev1.Pod{newPod("x", "", "", on("n4"), far(apps("db", zone)))}, []func(*corev1.Pod){app("db")}, all},
		"affinity binds one side":  {[]*corev1.Pod{newPod("x", "", "", on("n1"), near(apps("db", zone)))}, []func(*corev1.Pod){app("db")}, all},
		"preference binds nobody":  {[]*corev1.Pod{db, newPod("x", "", "", on("n3"), rather(-9, apps("web", zone)))}, []func(*corev1.Pod){app("web"), rather(-9, apps("db", zone))}, all},
		"another namespace":        {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), far(apps("db", zone))}, all},
		"a namespace by name":      {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), far(apps("db", zone, spaces("default")))}, []string{"n3", "n4"}},
		"not its own by that":      {[]*corev1.Pod{db}, []func(*corev1.Pod){far(apps("db", zone, spaces("shop")))}, all},
		"namespaces by label":      {[]*corev1.Pod{newPod("db", "", "", on("n3"), in("shop"), app("db"))}, []func(*corev1.Pod){far(apps("db", zone, spacesWith(map[string]string{"team": "shop"})))}, []string{"n1", "n2", "n4"}},
		"namespaces by their name": {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), far(apps("db", zone, spacesWith(map[string]string{corev1.LabelMetadataName: "default"})))}, []string{"n3", "n4"}},
		"no namespace by label":    {[]*corev1.Pod{db}, []func(*corev1.Pod){far(apps("db", zone, spacesWith(map[string]string{"team": "none"})))}, all},
		"all namespaces":           {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), far(apps("db", zone, spacesWith(nil)))}, []string{"n3", "n4"}},
		"by label or name":         {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), far(apps("db", zone, spaces("default"), spacesWith(map[string]string{"team": "none"})))}, []string{"n3", "n4"}},
		"shunned from afar": {
			[]*corev1.Pod{newPod("x", "", "", on("n1"), far(apps("db", zone, spacesWith(map[string]string{"team": "shop"}))))},
			[]func(*corev1.Pod){in("shop"), app("db")},
			[]string{"n3", "n4"},
		},
		"near its own version":   {[]*corev1.Pod{db}, []func(*corev1.Pod){app("db", "1"), near(apps("db", zone, same("version")))}, []string{"n1", "n2"}},
		"far from its version":   {[]*corev1.Pod{db}, []func(*corev1.Pod){app("db", "2"), far(apps("db", zone, same("version")))}, all},
		"far from other ones":    {[]*corev1.Pod{db}, []func(*corev1.Pod){app("db", "2"), far(apps("db", zone, other("version")))}, []string{"n3", "n4"}},
		"it has no such label":   {[]*corev1.Pod{db}, []func(*corev1.Pod){app("db"), far(apps("db", zone, same("version")))}, []string{"n3", "n4"}},
		"shunned by one version": {[]*corev1.Pod{newPod("x", "", "", on("n1"), app("db", "1"), far(apps("db", zone, same("version"))))}, []func(*corev1.Pod){app("db", "1")}, []string{"n3", "n4"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, fitting(inZones(test.there...), newPod("p", "", "", test.pod...))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPeersInOnePass: pods that are placed count at once, the words are
// Kubernetes', and who was refused comes again after the pod that it needs.
func TestPeersInOnePass(t *testing.T) {
	s := inZones(newPod("x", "", "", on("n4"), app("x"), far(apps("web", corev1.LabelHostname))))
	waits := func(name string) *corev1.Pod { return newPod(name, "", "", app(name), near(apps("late", zone))) }
	var pods []*corev1.Pod
	for i := range 4 {
		pods = append(pods, newPod(fmt.Sprint("web-", i), "", "", app("web"), far(apps("web", corev1.LabelHostname))))
	}
	pods = append(pods, waits("early"), newPod("never", "", "", near(apps("nobody", zone))), newPod("late", "", "", app("late"), wants(byFields(requirement("metadata.name", corev1.NodeSelectorOpIn, "n3")))))
	got := Schedule(pods, s)
	want := map[string]string{
		"web-0": "n1", "web-1": "n2", "web-2": "n3",
		"web-3": "0/4 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules, 3 node(s) didn't match pod anti-affinity rules.",
		"early": "n3", "late": "n3",
		"never": "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.",
	}
	if diff := cmp.Diff(want, summary(got)); diff != "" || !got.Arrived {
		t.Errorf("arrived %t (-want +got):\n%s", got.Arrived, diff)
	}
	for _, p := range pods {
		s.Release(schema.KeyOf(p), p.UID)
	}
	if s.SetPod(schema.Pods.Key("default", "x"), nil); len(s.peers.groups) != 0 || len(s.peers.speaking) != 0 {
		t.Errorf("left over: %v", s.peers.groups)
	}
}

// TestPreferredPeers: of the nodes that fit, the one near to most of what is
// liked and far from what is not, by the pod's own terms and by those of the
// pods that are there.
func TestPreferredPeers(t *testing.T) {
	db, web := newPod("db", "2", "2Gi", on("n3"), app("db")), newPod("web", "1", "1Gi", on("n2"), app("web"))
	for name, test := range map[string]struct {
		there []*corev1.Pod
		pod   []func(*corev1.Pod)
		want  string
	}{
		"nothing": {[]*corev1.Pod{db}, nil, "n1"},
		"likes":   {[]*corev1.Pod{db}, []func(*corev1.Pod){rather(1, apps("db", zone))}, "n3"},
		"likes the more": {
			[]*corev1.Pod{newPod("db-1", "1", "", on("n3"), app("db")), newPod("db-2", "1", "", on("n3"), app("db")), newPod("db-3", "", "", on("n2"), app("db"))},
			[]func(*corev1.Pod){rather(1, apps("db", corev1.LabelHostname))},
			"n3",
		},
		"likes nobody":         {[]*corev1.Pod{db}, []func(*corev1.Pod){rather(1, apps("web", zone))}, "n1"},
		"dislikes":             {[]*corev1.Pod{web}, []func(*corev1.Pod){rather(-1, apps("web", zone))}, "n3"},
		"likes one more":       {[]*corev1.Pod{db, web}, []func(*corev1.Pod){rather(10, apps("db", zone)), rather(20, apps("web", corev1.LabelHostname))}, "n2"},
		"likes and dislikes":   {[]*corev1.Pod{db, web}, []func(*corev1.Pod){rather(20, apps("web", zone)), rather(-10, apps("web", corev1.LabelHostname))}, "n1"},
		"is liked":             {[]*corev1.Pod{newPod("x", "1", "1Gi", on("n3"), rather(5, apps("p", zone)))}, []func(*corev1.Pod){app("p")}, "n3"},
		"is needed":            {[]*corev1.Pod{newPod("x", "1", "1Gi", on("n3"), near(apps("p", zone)))}, []func(*corev1.Pod){app("p")}, "n3"},
		"is disliked":          {[]*corev1.Pod{newPod("x", "", "", on("n2"), rather(-5, apps("p", zone)))}, []func(*corev1.Pod){app("p")}, "n3"},
		"others are disliked":  {[]*corev1.Pod{newPod("x", "", "", on("n2"), rather(-5, apps("p", zone)))}, []func(*corev1.Pod){app("q")}, "n1"},
		"likes where it may":   {[]*corev1.Pod{db}, []func(*corev1.Pod){rather(1, apps("db", zone)), far(apps("db", corev1.LabelHostname))}, "n1"},
		"in another namespace": {[]*corev1.Pod{db}, []func(*corev1.Pod){in("shop"), rather(1, apps("db", zone))}, "n1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Schedule([]*corev1.Pod{newPod("p", "100m", "", test.pod...)}, inZones(test.there...))
			if len(got.Bindings) != 1 || got.Bindings[0].Node != test.want {
				t.Errorf("%v, want %s", summary(got), test.want)
			}
		})
	}
}
