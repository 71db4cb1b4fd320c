package scheduler

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
)

// State is the nodes and what is taken on them, kept up change by change. The
// zero value is not usable; see NewState. It is not safe for concurrent use.
type State struct {
	nodes  map[string]*node
	sorted []*node // those with an object, by name; nil when it must be made anew
	pods   map[schema.Key]*placement
	spread map[types.UID]*counts
	free   []int             // indexes of nodes that are gone
	hints  map[string]string // class of demand → why it fits nowhere, while no room appears
	view   *volumes.View     // nil: claims are not looked at
	spaces map[string]labels.Set

	peers   *peers            // nil: no pod has said anything about others
	hopes   map[string][]term // class of demand that was refused → what it needs near
	arrived bool              // one of those

	fitting []*node // of choose, and
	scored  []int64 // of scores, to be used again
}

// node is one machine. Without an object it only keeps the room that pods
// take on a node that is not known.
type node struct {
	name     string
	index    int
	object   *corev1.Node
	ready    bool
	open     bool // not cordoned
	taints   []corev1.Taint
	capacity amount
	maxPods  int64

	used   amount
	weight amount
	pods   int64
	ports  map[portUse]int
}

// placement is a pod that takes room.
type placement struct {
	uid      types.UID
	node     string
	demand   demand
	group    *group // nil: the state has no peers
	reserved bool   // by Schedule; not yet seen as bound
}

// counts says how many pods of one controller each node, by index, has.
type counts struct {
	byNode []int32
	total  int
}

// NewState returns a state without nodes.
func NewState() *State {
	return &State{
		nodes: map[string]*node{}, pods: map[schema.Key]*placement{}, spread: map[types.UID]*counts{},
		hints: map[string]string{}, hopes: map[string][]term{}, spaces: map[string]labels.Set{},
	}
}

// SetNode takes in a node as it is now; nil means that it is gone. It reports
// whether pods may fit now that did not before.
func (s *State) SetNode(name string, object *corev1.Node) bool {
	n := s.node(name)
	before := *n
	n.object, n.ready, n.open, n.taints, n.capacity, n.maxPods = object, false, false, nil, amount{}, 0
	if object != nil {
		n.ready, n.open, n.taints = isReady(object), !object.Spec.Unschedulable, object.Spec.Taints
		a := object.Status.Allocatable
		n.capacity = amount{a.Cpu().MilliValue(), a.Memory().Value(), a.StorageEphemeral().Value()}
		n.maxPods = a.Pods().Value()
	}
	if (before.object == nil) != (object == nil) {
		s.sorted = nil
	}
	s.drop(n)
	changed := nodeChanged(&before, n)
	if changed {
		clear(s.hints)
	}
	return changed
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// nodeChanged compares what decides; a heartbeat changes nothing of it.
func nodeChanged(a, b *node) bool {
	if a.ready != b.ready || a.open != b.open || a.capacity != b.capacity || a.maxPods != b.maxPods || (a.object == nil) != (b.object == nil) {
		return true
	}
	return a.object != nil && (!sameTaints(a.taints, b.taints) || !maps.Equal(a.object.Labels, b.object.Labels))
}

// SetPod takes in a pod as it is now; nil means that it is gone. It reports
// whether pods may fit now that did not before: room was given back, or there is
// a pod that others need or no longer shun. A pod that Schedule gave room keeps
// it until it is seen bound, seen gone, or Release is called.
func (s *State) SetPod(key schema.Key, pod *corev1.Pod) bool {
	had := s.pods[key]
	if pod == nil || pod.Spec.NodeName == "" || finished(pod) {
		stillReserved := had != nil && had.reserved && pod != nil && pod.UID == had.uid && !finished(pod)
		if had == nil || stillReserved {
			return false
		}
		s.remove(key)
		return true
	}
	if had != nil && had.uid == pod.UID && had.node == pod.Spec.NodeName {
		had.reserved = false
		freed, other := s.resize(had, pod), s.relabel(had, pod)
		return s.takeArrival() || freed || other
	}
	if had != nil {
		s.remove(key)
	}
	d := demandOf(pod)
	d.requests, d.weight = takenBy(pod)
	s.place(key, &placement{uid: pod.UID, node: pod.Spec.NodeName, demand: d})
	return s.takeArrival() || had != nil
}

// resize counts a bound pod with what it takes now, and reports whether that is
// less of something.
func (s *State) resize(p *placement, pod *corev1.Pod) bool {
	requests, weight := takenBy(pod)
	before := p.demand.requests
	if requests == before && weight == p.demand.weight {
		return false
	}
	n := s.nodes[p.node]
	n.used, n.weight = n.used.minus(before).plus(requests), n.weight.minus(p.demand.weight).plus(weight)
	p.demand.requests, p.demand.weight = requests, weight
	freed := requests.max(before) != requests
	if freed {
		clear(s.hints)
	}
	return freed
}

// finished reports whether nothing of a pod runs any more, nor will.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Annotations[schema.StoppedAnnotation] != ""
}

// Reserved reports whether Schedule gave room to the pod and it was not seen
// bound since.
func (s *State) Reserved(key schema.Key, uid types.UID) bool {
	p := s.pods[key]
	return p != nil && p.reserved && p.uid == uid
}

// Release gives back what Schedule took for a pod that could not be bound.
func (s *State) Release(key schema.Key, uid types.UID) {
	if s.Reserved(key, uid) {
		s.remove(key)
	}
}

// HasNode reports whether there is such a node.
func (s *State) HasNode(name string) bool {
	n := s.nodes[name]
	return n != nil && n.object != nil
}

func (s *State) node(name string) *node {
	if n := s.nodes[name]; n != nil {
		return n
	}
	n := &node{name: name, index: len(s.nodes), ports: map[portUse]int{}}
	if last := len(s.free) - 1; last >= 0 {
		n.index, s.free = s.free[last], s.free[:last]
	}
	s.nodes[name] = n
	return n
}

// drop forgets a node that neither is nor has anything.
func (s *State) drop(n *node) {
	if n.object == nil && n.pods == 0 && s.nodes[n.name] == n {
		delete(s.nodes, n.name)
		s.free = append(s.free, n.index)
	}
}

func (s *State) place(key schema.Key, p *placement) {
	n := s.node(p.node)
	n.used, n.weight = n.used.plus(p.demand.requests), n.weight.plus(p.demand.weight)
	n.pods++
	for _, port := range p.demand.ports {
		n.ports[port]++
	}
	s.count(p.demand.controller, n.index, 1)
	s.join(p, n)
	s.pods[key] = p
}

func (s *State) remove(key schema.Key) {
	p := s.pods[key]
	delete(s.pods, key)
	n := s.nodes[p.node]
	n.used, n.weight = n.used.minus(p.demand.requests), n.weight.minus(p.demand.weight)
	n.pods--
	for _, port := range p.demand.ports {
		if n.ports[port]--; n.ports[port] == 0 {
			delete(n.ports, port)
		}
	}
	s.count(p.demand.controller, n.index, -1)
	s.leave(p, n)
	s.drop(n)
	clear(s.hints)
}

func (s *State) count(controller types.UID, index int, by int) {
	if controller == "" {
		return
	}
	c := s.spread[controller]
	if c == nil {
		c = &counts{}
		s.spread[controller] = c
	}
	for len(c.byNode) <= index {
		c.byNode = append(c.byNode, 0)
	}
	c.byNode[index] += int32(by)
	if c.total += by; c.total == 0 {
		delete(s.spread, controller)
	}
}

// known returns the nodes that there are, by name.
func (s *State) known() []*node {
	if s.sorted == nil {
		s.sorted = make([]*node, 0, len(s.nodes))
		for _, n := range s.nodes {
			if n.object != nil {
				s.sorted = append(s.sorted, n)
			}
		}
		slices.SortFunc(s.sorted, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	}
	return s.sorted
}
