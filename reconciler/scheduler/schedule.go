package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Binding is a pod and the node that was chosen for it.
type Binding struct {
	Pod  *corev1.Pod
	Node string
}

// Failure is a pod that fits nowhere, and why, in Kubernetes' words: "0/3
// nodes are available: 1 Insufficient cpu, 2 node(s) were not ready."
type Failure struct {
	Pod    *corev1.Pod
	Reason string
}

// Result has every pod that was given to Schedule, in one of its first two
// lists, in the order decided.
type Result struct {
	Bindings      []Binding
	Unschedulable []Failure

	// Selections are for claims of pods that are unschedulable until these have
	// their volumes.
	Selections []Selection

	// Arrived says that a pod was placed which one that was refused, now or
	// before, needs to be near. Those of this call were tried again; the caller
	// tries those of earlier ones.
	Arrived bool
}

// Selection is a claim and the node where the pod that waits for it will run.
type Selection struct {
	Claim *corev1.PersistentVolumeClaim
	Node  string
}

// Schedule chooses a node for each of the pods, which are unbound, first come
// first served; one that needs another near it comes again after that one. A
// pod that is given a node has taken its room in state when Schedule returns;
// State.Release gives it back. The same pods and the same state always give the
// same result.
func Schedule(pods []*corev1.Pod, state *State) Result {
	var result Result
	for _, pod := range pods {
		state.schedule(pod, &result)
	}
	for state.takeArrival() {
		result.Arrived = true
		again := result.Unschedulable
		result.Unschedulable = nil
		for _, f := range again {
			state.schedule(f.Pod, &result)
		}
	}
	return result
}

func (s *State) schedule(pod *corev1.Pod, result *Result) {
	d := demandOf(pod)
	d.needs = s.needsOf(pod)
	best, reason := s.choose(&d)
	if best != nil && d.waits() {
		result.add(d.selections(best))
		best, reason = nil, fmt.Sprintf("waiting for its volumes on %s", best.name)
	}
	if best == nil {
		result.Unschedulable = append(result.Unschedulable, Failure{Pod: pod, Reason: reason})
		return
	}
	key := schema.Pods.Key(pod.Namespace, pod.Name)
	if s.pods[key] != nil { // of an earlier pod of that name
		s.remove(key)
	}
	d.around = nil
	s.place(key, &placement{uid: pod.UID, node: best.name, demand: d, reserved: true})
	result.Bindings = append(result.Bindings, Binding{Pod: pod, Node: best.name})
}

// add takes in the selections for claims that have none yet.
func (r *Result) add(selections []Selection) {
	for _, selection := range selections {
		if !slices.ContainsFunc(r.Selections, func(have Selection) bool { return have.Claim == selection.Claim }) {
			r.Selections = append(r.Selections, selection)
		}
	}
}

// choose returns the best of the nodes that the demand fits, or why none does.
func (s *State) choose(d *demand) (*node, string) {
	if d.needs != nil && d.needs.Missing != "" {
		return nil, fmt.Sprintf("0/%d nodes are available: %s.", len(s.known()), d.needs.Missing)
	}
	if len(s.hints) > 0 && d.needs == nil {
		if reason, known := s.hints[s.classOf(d)]; known {
			return nil, reason
		}
	}
	d.around = s.surroundingsOf(d)
	s.fitting = s.fitting[:0]
	for _, n := range s.known() {
		if n.fits(d) {
			s.fitting = append(s.fitting, n)
		}
	}
	if len(s.fitting) > 0 {
		return best(s.fitting, s.scores(d, s.fitting)), ""
	}
	reason, class := s.explain(d), s.classOf(d)
	if d.needs == nil {
		s.hints[class] = reason
	}
	s.hope(class, d)
	return nil, reason
}

// best is the node with the highest score, and of several the one with the
// fewest pods.
func best(nodes []*node, scores []int64) *node {
	first := 0
	for i := range nodes {
		if scores[i] > scores[first] || scores[i] == scores[first] && nodes[i].pods < nodes[first].pods {
			first = i
		}
	}
	return nodes[first]
}

// scores says of each of the nodes, which all fit, how good it is for the
// demand. The result is valid until the next call.
func (s *State) scores(d *demand, nodes []*node) []int64 {
	s.scored = s.scored[:0]
	same := s.spread[d.controller]
	for _, n := range nodes {
		s.scored = append(s.scored, n.score(d, same))
	}
	preferNodes(d, nodes, s.scored)
	preferPeers(d, nodes, s.scored)
	return s.scored
}

func (n *node) fits(d *demand) bool {
	return n.ready && n.open && n.untolerated(d) == nil && n.roomFor(d) && n.matches(d) && n.portsFree(d.ports) && n.hasVolumes(d) == "" && n.hasPeers(d) == ""
}

func (n *node) roomFor(d *demand) bool {
	return n.pods < n.maxPods && fitsIn(d.requests.cpu, n.used.cpu, n.capacity.cpu) && fitsIn(d.requests.memory, n.used.memory, n.capacity.memory) &&
		fitsIn(d.requests.disk, n.used.disk, n.capacity.disk)
}

// fitsIn: who asks for nothing fits even where there is nothing left.
func fitsIn(request, used, capacity int64) bool { return request == 0 || used+request <= capacity }

func (n *node) portsFree(ports []portUse) bool {
	if len(n.ports) == 0 {
		return true
	}
	for _, want := range ports {
		for have := range n.ports {
			sameIP := want.ip == have.ip || want.ip == "" || have.ip == ""
			if want.port == have.port && want.protocol == have.protocol && sameIP {
				return false
			}
		}
	}
	return true
}

// score is higher the more is left on the node with the pod on it (0 to 100)
// and the fewer pods of the same controller it has (200, 100, 66, …): spreading
// what fails together comes before filling evenly.
func (n *node) score(d *demand, same *counts) int64 {
	const spreadWeight = 200
	left := (share(n.capacity.cpu, n.weight.cpu+d.weight.cpu) + share(n.capacity.memory, n.weight.memory+d.weight.memory)) / 2
	already := int64(0)
	if same != nil && n.index < len(same.byNode) {
		already = int64(same.byNode[n.index])
	}
	return left*10 + spreadWeight*10/(1+already)
}

// share is how much of the capacity is left, in hundredths.
func share(capacity, used int64) int64 {
	if capacity <= 0 || used >= capacity {
		return 0
	}
	return (capacity - used) * 100 / capacity
}

// explain counts over all nodes why the demand does not fit. The words are
// those of Kubernetes' scheduler.
func (s *State) explain(d *demand) string {
	nodes := s.known()
	if len(nodes) == 0 {
		return "no nodes available to schedule pods"
	}
	count := map[string]int{}
	for _, n := range nodes {
		for _, reason := range n.refusals(d) {
			count[reason]++
		}
	}
	var reasons []string
	for reason, n := range count {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(reasons)
	return fmt.Sprintf("0/%d nodes are available: %s.", len(nodes), strings.Join(reasons, ", "))
}

// refusals are the reasons of the first filter that refuses.
func (n *node) refusals(d *demand) []string {
	switch {
	case !n.open:
		return []string{"node(s) were unschedulable"}
	case !n.ready:
		return []string{"node(s) were not ready"}
	}
	if taint := n.untolerated(d); taint != nil {
		return []string{fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)}
	}
	switch {
	case !n.matches(d):
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	case !n.portsFree(d.ports):
		return []string{"node(s) didn't have free ports for the requested pod ports"}
	}
	if reason := n.hasVolumes(d); reason != "" {
		return []string{reason}
	}
	var reasons []string
	if n.pods >= n.maxPods {
		reasons = append(reasons, "Too many pods")
	}
	if !fitsIn(d.requests.cpu, n.used.cpu, n.capacity.cpu) {
		reasons = append(reasons, "Insufficient cpu")
	}
	if !fitsIn(d.requests.memory, n.used.memory, n.capacity.memory) {
		reasons = append(reasons, "Insufficient memory")
	}
	if !fitsIn(d.requests.disk, n.used.disk, n.capacity.disk) {
		reasons = append(reasons, "Insufficient ephemeral-storage")
	}
	if reason := n.hasPeers(d); len(reasons) == 0 && reason != "" {
		return []string{reason}
	}
	return reasons
}
