package nodeagent

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// nodePressure is under which pressure the node is, and since when it is or is
// not. The zero value is ready.
type nodePressure struct {
	mu     sync.Mutex
	active map[corev1.NodeConditionType]bool
	since  map[corev1.NodeConditionType]time.Time
}

// pressureCondition is a condition in the kubelet's words.
type pressureCondition struct {
	kind                          corev1.NodeConditionType
	reason, message               string // while it is so
	reasonWithout, messageWithout string
}

var pressureConditions = []pressureCondition{
	{corev1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "the node has insufficient memory available", "KubeletHasSufficientMemory", "the node has sufficient memory available"},
	{corev1.NodeDiskPressure, "KubeletHasDiskPressure", "the node has disk pressure", "KubeletHasNoDiskPressure", "the node has no disk pressure"},
	{corev1.NodePIDPressure, "KubeletHasInsufficientPID", "the node has insufficient PID available", "KubeletHasSufficientPID", "the node has sufficient PID available"},
}

// set takes in what is so now, and reports whether that is new.
func (p *nodePressure) set(active []corev1.NodeConditionType, now time.Time) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beginLocked()
	for _, c := range pressureConditions {
		is := slices.Contains(active, c.kind)
		if is != p.active[c.kind] || p.since[c.kind].IsZero() {
			p.active[c.kind], p.since[c.kind], changed = is, now, true
		}
	}
	return changed
}

func (p *nodePressure) beginLocked() {
	if p.active == nil {
		p.active, p.since = map[corev1.NodeConditionType]bool{}, map[corev1.NodeConditionType]time.Time{}
	}
}

// adopt takes over since when it is so from what an earlier process said.
func (p *nodePressure) adopt(conditions []corev1.NodeCondition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beginLocked()
	for _, c := range conditions {
		ours := slices.ContainsFunc(pressureConditions, func(known pressureCondition) bool { return known.kind == c.Type })
		is := c.Status == corev1.ConditionTrue
		if ours && (p.since[c.Type].IsZero() || p.active[c.Type] == is) {
			p.active[c.Type], p.since[c.Type] = is, c.LastTransitionTime.Time
		}
	}
}

// types are the conditions that are true, sorted.
func (p *nodePressure) types() (out []corev1.NodeConditionType) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind, is := range p.active {
		if is {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}

// conditions are those of the node's status; none before the first look.
func (p *nodePressure) conditions() (out []corev1.NodeCondition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range pressureConditions {
		if p.since[c.kind].IsZero() {
			continue
		}
		condition := corev1.NodeCondition{Type: c.kind, Status: corev1.ConditionFalse, Reason: c.reasonWithout, Message: c.messageWithout, LastTransitionTime: *stamp(p.since[c.kind])}
		if p.active[c.kind] {
			condition.Status, condition.Reason, condition.Message = corev1.ConditionTrue, c.reason, c.message
		}
		out = append(out, condition)
	}
	return out
}
