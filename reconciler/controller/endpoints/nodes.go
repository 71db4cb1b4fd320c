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
	seen    map[string]nodeView // nodes that have reported
	missing int                 // of them, without a lease
	doubt   bool
}

// nodeView is all of a node that its pods' endpoints are made of.
type nodeView struct {
	present bool // its lease is there
	ready   bool // as its agent last said
}

func newNodes(mirror *registry.Mirror) *nodes {
	return &nodes{mirror: mirror, seen: map[string]nodeView{}}
}

// see takes in a node as it is now, and reports whether it can be reached
// where it could not before or the other way round, and whether doubt began or
// ended.
func (n *nodes) see(name string) (changed, doubtChanged bool) {
	status := n.mirror.NodeStatus(name)
	exists := status != nil && n.mirror.Get(schema.Nodes.Key("", name)) != nil
	now := nodeView{present: n.mirror.NodePresent(name), ready: exists && isReadyNode(status)}
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.reachableLocked(name)
	if was, known := n.seen[name]; known && !was.present {
		n.missing--
	}
	delete(n.seen, name)
	if exists {
		n.seen[name] = now
		if !now.present {
			n.missing++
		}
	}
	total := len(n.seen)
	doubt := n.missing > 0 && (n.missing == total || total >= 3 && 2*n.missing > total)
	doubtChanged, n.doubt = doubt != n.doubt, doubt
	return before != n.reachableLocked(name), doubtChanged
}

// reachable reports whether a node's pods can be reached, as it was last seen:
// a node and the doubt about it are judged together, or the moment between
// them would be an outage.
func (n *nodes) reachable(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.reachableLocked(name)
}

func (n *nodes) reachableLocked(name string) bool {
	node := n.seen[name]
	return node.ready && (node.present || n.doubt)
}

func isReadyNode(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
