package endpoints

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// nodes knows which nodes' pods can be reached. A node whose lease is gone is
// not ready; but when all nodes' leases are, or those of more than half of
// three or more, that is more likely our own fault, and what the agents said
// last counts: taking every endpoint out would make an outage of it. It is
// safe for concurrent use.
type nodes struct {
	mirror *registry.Mirror

	mu      sync.Mutex
	present map[string]bool // nodes that have reported, and whether their lease is there
	ready   map[string]bool // what reachable said, while not in doubt
	missing int
	doubt   bool
}

func newNodes(mirror *registry.Mirror) *nodes {
	return &nodes{mirror: mirror, present: map[string]bool{}, ready: map[string]bool{}}
}

// see takes in a node as it is now, and reports whether it can be reached
// where it could not before or the other way round, and whether doubt began or
// ended.
func (n *nodes) see(name string) (changed, doubtChanged bool) {
	exists := n.mirror.Get(schema.Nodes.Key("", name)) != nil && n.mirror.NodeStatus(name) != nil
	present := n.mirror.NodePresent(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if was, known := n.present[name]; known && !was {
		n.missing--
	}
	delete(n.present, name)
	if exists {
		n.present[name] = present
		if !present {
			n.missing++
		}
	}
	total := len(n.present)
	doubt := n.missing > 0 && (n.missing == total || total >= 3 && 2*n.missing > total)
	doubtChanged, n.doubt = doubt != n.doubt, doubt
	now := n.reachableLocked(name)
	if changed = n.ready[name] != now; changed {
		n.ready[name] = now
	}
	if !exists {
		delete(n.ready, name)
	}
	return changed, doubtChanged
}

// reachable reports whether a node's pods can be reached.
func (n *nodes) reachable(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reachableLocked(name)
}

func (n *nodes) reachableLocked(name string) bool {
	node, ok := n.mirror.Get(schema.Nodes.Key("", name)).(*corev1.Node)
	if !ok {
		return false
	}
	if n.doubt && !n.mirror.NodePresent(name) {
		node = n.mirror.NodeStatus(name)
	}
	if node == nil {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
