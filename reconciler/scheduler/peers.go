package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// peers are the pods that have their room, in groups of those that are alike to
// the terms of others: what a controller made is one group, however much it is.
// There are none as long as no pod has terms.
type peers struct {
	groups   map[string]*group // by peerClass
	speaking map[*group]bool   // those with terms
}

type group struct {
	class string
	identity
	terms *terms
	on    map[*node]int64 // how many of them
}

// SetNamespace takes in a namespace as it is now, of whose labels pods' affinity
// may speak; nil means that it is gone. It reports whether pods may fit now
// that did not before.
func (s *State) SetNamespace(name string, object *corev1.Namespace) bool {
	if object == nil {
		delete(s.spaces, name) // its pods went before it
		return false
	}
	now := labels.Set{corev1.LabelMetadataName: name}
	maps.Copy(now, object.Labels)
	if maps.Equal(s.spaces[name], now) {
		return false
	}
	s.spaces[name] = now
	if s.peers == nil {
		return false
	}
	for _, g := range s.peers.groups {
		if g.namespace == name {
			g.spaces = now
		}
	}
	clear(s.hints)
	return true
}

func (s *State) identityOf(d *demand) identity {
	return identity{d.namespace, d.labels, s.spaces[d.namespace]}
}

// meet groups the pods that are there, from when on they are kept grouped.
func (s *State) meet() {
	s.peers = &peers{map[string]*group{}, map[*group]bool{}}
	for _, p := range s.pods {
		s.join(p, s.nodes[p.node])
	}
}

// join counts a pod that gets room on a node. It is not yet in s.pods.
func (s *State) join(p *placement, n *node) {
	if s.peers == nil && p.demand.terms != nil {
		s.meet()
	}
	if s.peers == nil {
		return
	}
	class := p.demand.peerClass()
	g := s.peers.groups[class]
	if g == nil {
		g = &group{class, s.identityOf(&p.demand), p.demand.terms, map[*node]int64{}}
		s.peers.groups[class] = g
		if g.terms != nil {
			s.peers.speaking[g] = true
		}
	}
	g.on[n]++
	p.group = g
	for class, needs := range s.hopes {
		if allMatch(needs, &g.identity) {
			delete(s.hopes, class)
			delete(s.hints, class)
			s.arrived = true
		}
	}
}

func (s *State) leave(p *placement, n *node) {
	g := p.group
	if g == nil {
		return
	}
	p.group = nil
	if g.on[n]--; g.on[n] > 0 {
		return
	}
	delete(g.on, n)
	if len(g.on) == 0 {
		delete(s.peers.groups, g.class)
		delete(s.peers.speaking, g)
	}
}

// relabel counts a bound pod with the labels that it has now, and reports
// whether others may fit now that did not before.
func (s *State) relabel(p *placement, pod *corev1.Pod) bool {
	if maps.Equal(p.demand.labels, pod.Labels) {
		return false
	}
	p.demand.labels, p.demand.terms = pod.Labels, termsOf(pod)
	if s.peers == nil {
		return false
	}
	n := s.nodes[p.node]
	s.leave(p, n)
	s.join(p, n)
	clear(s.hints)
	return true
}

// hope keeps in mind what a demand that was refused needs to be near.
func (s *State) hope(class string, d *demand) {
	if d.terms != nil && len(d.terms.needs) > 0 {
		s.hopes[class] = d.terms.needs
	}
}

// takeArrival reports whether a pod was placed, since it was last asked, that
// one which was refused needs to be near.
func (s *State) takeArrival() bool {
	arrived := s.arrived
	s.arrived = false
	return arrived
}

// touched reports whether pods that are there, or the demand's own terms, have
// a say in where it goes.
func (s *State) touched(d *demand) bool {
	return d.terms != nil || s.peers != nil && len(s.peers.speaking) > 0
}

// areas are sums by a label of nodes and its value: a few labels, of many
// values.
type areas []area

type area struct {
	label  string
	values map[string]int64
}

// add counts for all nodes with the same value of the label as the group's.
func (a *areas) add(label string, g *group, weight int64) {
	i := slices.IndexFunc(*a, func(of area) bool { return of.label == label })
	for n, count := range g.on {
		if n.object == nil {
			continue
		}
		value, ok := n.object.Labels[label]
		if !ok {
			continue
		}
		if i < 0 {
			i = len(*a)
			*a = append(*a, area{label, map[string]int64{}})
		}
		(*a)[i].values[value] += weight * count
	}
}

// count adds where a group is for each of the terms that match.
func (a *areas) count(all []term, id *identity, g *group) {
	for i := range all {
		if all[i].matches(id) {
			a.add(all[i].topology, g, all[i].weight)
		}
	}
}

// at is the sum over the labels of a node.
func (a areas) at(n *node) int64 {
	sum := int64(0)
	for i := range a {
		if value, ok := n.object.Labels[a[i].label]; ok {
			sum += a[i].values[value]
		}
	}
	return sum
}

// has reports whether anything was counted for a value of a label.
func (a areas) has(label, value string) bool {
	return slices.ContainsFunc(a, func(of area) bool { return of.label == label && of.values[value] > 0 })
}

// surroundings is what the pods that are there mean for one demand
// (k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity).
type surroundings struct {
	needs    []term
	near     areas // of pods that match all that it needs
	alone    bool  // there is none, and it matches them itself: it is the first of its kind
	shunned  areas // of pods that it shuns
	shunning areas // of pods that shun it
	worth    areas // by what it prefers, and they
}

func (s *State) surroundingsOf(d *demand) *surroundings {
	if !s.touched(d) {
		return nil
	}
	if s.peers == nil {
		s.meet()
	}
	around := &surroundings{}
	id := s.identityOf(d)
	if d.terms != nil {
		around.needs = d.terms.needs
		for _, g := range s.peers.groups {
			around.own(d.terms, g)
		}
		around.alone = len(around.near) == 0 && allMatch(d.terms.needs, &id)
	}
	for g := range s.peers.speaking {
		around.theirs(&id, g)
	}
	return around
}

// own counts a group by the terms of the demand.
func (a *surroundings) own(t *terms, g *group) {
	if allMatch(t.needs, &g.identity) {
		for i := range t.needs {
			a.near.add(t.needs[i].topology, g, 1)
		}
	}
	a.shunned.count(t.shuns, &g.identity, g)
	a.worth.count(t.prefers, &g.identity, g)
}

// theirs counts a group by its own terms.
func (a *surroundings) theirs(id *identity, g *group) {
	a.shunning.count(g.terms.shuns, id, g)
	a.worth.count(g.terms.needs, id, g)
	a.worth.count(g.terms.prefers, id, g)
}

// hasPeers says why a demand cannot be on a node beside the pods that are
// there, or "".
func (n *node) hasPeers(d *demand) string {
	switch a := d.around; {
	case a == nil:
		return ""
	case !a.nearAll(n):
		return "node(s) didn't match pod affinity rules"
	case a.shunned.at(n) > 0:
		return "node(s) didn't match pod anti-affinity rules"
	case a.shunning.at(n) > 0:
		return "node(s) didn't satisfy existing pods anti-affinity rules"
	}
	return ""
}

// nearAll reports whether a node is near all that the demand needs. Who is the
// first of its kind goes wherever there are the labels.
func (a *surroundings) nearAll(n *node) bool {
	for i := range a.needs {
		label := a.needs[i].topology
		value, ok := n.object.Labels[label]
		if !ok || !a.alone && !a.near.has(label, value) {
			return false
		}
	}
	return true
}

// preferPeers adds to the scores of nodes by the pods near them: most to the
// best of the nodes, nothing to the worst, and to the others in proportion.
func preferPeers(d *demand, nodes []*node, scores []int64) {
	if d.around == nil || len(d.around.worth) == 0 || len(nodes) == 0 {
		return
	}
	sums := make([]int64, len(nodes))
	for i, n := range nodes {
		sums[i] = d.around.worth.at(n)
	}
	least, most := sums[0], sums[0]
	for _, sum := range sums {
		least, most = min(least, sum), max(most, sum)
	}
	if most == least {
		return
	}
	for i := range scores {
		scores[i] += affinityWeight * (sums[i] - least) / (most - least)
	}
}
