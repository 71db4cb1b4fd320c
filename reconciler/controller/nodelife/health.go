package nodelife

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// retry is how long a taint waits that could not be written.
const retry = time.Second

// watchHealth taints the nodes that are gone or cannot run pods, and takes the
// taints back. The clocks begin when it does.
func (l *life) watchHealth(ctx context.Context) error {
	m := l.Writer.Mirror
	select {
	case <-ctx.Done():
		return nil
	case <-m.Synced():
	}
	if err := m.WaitFor(ctx, l.Writer.Registries.Term()); err != nil {
		return nil
	}
	changes := m.Subscribe(schema.Nodes)
	defer changes.Close()
	nodes := map[string]Vital{}
	for _, key := range changes.Take() {
		l.adopt(nodes, key.Name, time.Now())
	}
	held := false
	for {
		verdict := Judge(nodes, time.Now(), l.EvictAfter)
		if verdict.Held != held {
			held = verdict.Held
			l.hold(nodes, held)
			verdict = Judge(nodes, time.Now(), l.EvictAfter)
		}
		for _, name := range verdict.Lost {
			n := nodes[name]
			n.Lost = true
			nodes[name] = n
		}
		again, err := l.taintAll(ctx, nodes, verdict)
		if err != nil {
			return err
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer:
		case <-changes.Ready():
			for _, key := range changes.Take() {
				l.observe(nodes, key.Name, time.Now())
			}
		}
	}
}

// adopt takes in a node that was there before this leader. One that an earlier
// leader tainted as gone, and that nothing is left on, was given up by it.
func (l *life) adopt(nodes map[string]Vital, name string, now time.Time) {
	l.observe(nodes, name, now)
	n, known := nodes[name]
	if !known {
		return
	}
	n.Coming = false
	n.Lost = !n.Present && n.Taint == corev1.TaintNodeUnreachable && l.isEmpty(name)
	nodes[name] = n
}

// isEmpty reports whether no pod runs, or is to run, on a node.
func (l *life) isEmpty(node string) bool {
	for _, key := range l.Writer.Mirror.PodsOn(node) {
		pod, ok := l.Writer.Mirror.Get(key).(*corev1.Pod)
		finished := ok && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed)
		if ok && !finished && pod.Annotations[schema.MirrorAnnotation] == "" {
			return false
		}
	}
	return true
}

// observe takes in one node as it is now.
func (l *life) observe(nodes map[string]Vital, name string, now time.Time) {
	m := l.Writer.Mirror
	node, _ := m.Stored(schema.Nodes.Key("", name)).(*corev1.Node)
	status := m.NodeStatus(name)
	if node == nil || status == nil {
		delete(nodes, name)
		return
	}
	before, known := nodes[name]
	n := Vital{Taint: healthTaint(node)}
	switch {
	case m.NodePresent(name):
		n.Present, n.Ready = true, saysReady(status)
	case !known: // its lease may be about to come
		n.Since, n.New, n.Coming = now, true, true
	case before.Present:
		n.Since = now
		l.Logger.Warn("node is gone", "node", name, "evictAfter", l.EvictAfter)
	default:
		n.Since, n.Lost, n.New, n.Coming = before.Since, before.Lost, before.New, before.Coming
	}
	nodes[name] = n
	if before.Present && before.Ready && !n.Ready {
		l.Recorder.Event(node, corev1.EventTypeWarning, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", name))
	}
}

// saysReady reports whether an agent does not say that its node is not ready.
func saysReady(status *corev1.Node) bool {
	for _, c := range status.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true
}

// hold notes the beginning and the end of a time in which nobody is said to be
// gone; at its end the clocks of who still is begin anew.
func (l *life) hold(nodes map[string]Vital, is bool) {
	missing, lost := 0, 0
	for name, n := range nodes {
		if n.Present || n.Lost {
			continue
		}
		missing++
		if !n.New {
			lost++
		}
		if !is {
			n.Since = time.Now()
			nodes[name] = n
		}
	}
	if is && lost == 0 {
		l.Logger.Debug("nodes are not here yet", "nodes", len(nodes))
	} else if is {
		l.Logger.Error("most nodes are gone at once: evicting nobody until they are back", "gone", missing, "nodes", len(nodes))
	} else {
		l.Logger.Info("enough nodes are back: evicting again", "gone", missing, "nodes", len(nodes))
	}
}

// taintAll carries out a verdict and says when to judge again.
func (l *life) taintAll(ctx context.Context, nodes map[string]Vital, verdict Verdict) (time.Duration, error) {
	again := verdict.Again
	for name, n := range nodes {
		if n.Taint == verdict.Taints[name] {
			continue
		}
		err := l.taintHealth(ctx, name, verdict.Taints[name])
		switch {
		case errors.Is(err, registry.ErrFenced):
			return 0, fmt.Errorf("taint node %s: %w", name, err)
		case err == nil:
			l.observe(nodes, name, time.Now())
		case ctx.Err() == nil:
			again = soonest(again, retry)
			if !controller.IsStale(err) {
				l.Logger.Warn("node not tainted", "node", name, "error", err)
			}
		}
	}
	return again, nil
}

// taintHealth gives a node one taint for its health, or none for "".
func (l *life) taintHealth(ctx context.Context, name, key string) error {
	node, _ := l.Writer.Mirror.Stored(schema.Nodes.Key("", name)).(*corev1.Node)
	if node == nil {
		return nil
	}
	changed := node.DeepCopy()
	changed.Spec.Taints = nil
	for _, t := range node.Spec.Taints {
		if !isHealth(&t) {
			changed.Spec.Taints = append(changed.Spec.Taints, t)
		}
	}
	if key != "" {
		now := metav1.Now() // for people: nobody compares it with a clock
		changed.Spec.Taints = append(changed.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &now})
	}
	_, err := l.Writer.Commit(ctx, registry.Write{Update: changed})
	return err
}

// isHealth reports whether a taint is one of those that only this controller
// gives (Kubernetes: "Taint based Evictions").
func isHealth(t *corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeUnreachable || t.Key == corev1.TaintNodeNotReady)
}

// healthTaint is the key of the taint of health that a node has; of two, which
// only somebody else can have given it, both.
func healthTaint(node *corev1.Node) string {
	key := ""
	for i := range node.Spec.Taints {
		if isHealth(&node.Spec.Taints[i]) {
			key += node.Spec.Taints[i].Key
		}
	}
	return key
}
