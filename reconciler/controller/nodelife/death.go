package nodelife

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// sweep is how often the nodes that were evicted are looked at again: a pod
// may have come to one by name.
const sweep = time.Second

// watchDeaths removes the pods of nodes that have been gone for too long. The
// clocks begin when it does.
func (l *life) watchDeaths(ctx context.Context) error {
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
	held := false
	for {
		verdict := Judge(nodes, time.Now(), l.EvictAfter)
		held = l.hold(nodes, held, verdict.Held)
		again, err := l.evictAll(ctx, nodes, verdict)
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

// observe takes in one node as it is now.
func (l *life) observe(nodes map[string]Vital, name string, now time.Time) {
	m := l.Writer.Mirror
	node := m.Get(schema.Nodes.Key("", name))
	if node == nil || m.NodeStatus(name) == nil {
		delete(nodes, name)
		return
	}
	before, known := nodes[name]
	switch {
	case m.NodePresent(name):
		nodes[name] = Vital{Present: true}
	case !known: // its lease may be about to come
		nodes[name] = Vital{Since: now, New: true}
	case before.Present:
		nodes[name] = Vital{Since: now}
		l.Logger.Warn("node is gone", "node", name, "evictAfter", l.EvictAfter)
		l.Recorder.Event(node, corev1.EventTypeWarning, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", name))
	}
}

// hold notes the beginning and the end of a time in which nobody is evicted;
// at its end the clocks of who is still gone begin anew.
func (l *life) hold(nodes map[string]Vital, was, is bool) bool {
	if was == is {
		return is
	}
	count, lost := 0, 0
	for name, n := range nodes {
		if n.Present || n.Evicted {
			continue
		}
		count++
		if !n.New {
			lost++
		}
		if !is {
			nodes[name] = Vital{Since: time.Now(), New: n.New}
		}
	}
	if is && lost == 0 {
		l.Logger.Debug("nodes are not here yet", "nodes", len(nodes))
	} else if is {
		l.Logger.Error("most nodes are gone at once: evicting nobody until they are back", "gone", count, "nodes", len(nodes))
	} else {
		l.Logger.Info("enough nodes are back: evicting again", "gone", count, "nodes", len(nodes))
	}
	return is
}

// evictAll carries out a verdict and says when to judge again.
func (l *life) evictAll(ctx context.Context, nodes map[string]Vital, verdict Verdict) (time.Duration, error) {
	again := verdict.Again
	for _, name := range verdict.Evict {
		if time.Since(nodes[name].Since) < l.EvictAfter {
			again = soonest(again, l.EvictAfter) // its clock began anew
			continue
		}
		again = soonest(again, sweep)
		err := l.evict(ctx, name)
		switch {
		case errors.Is(err, registry.ErrFenced):
			return 0, fmt.Errorf("evict the pods of node %s: %w", name, err)
		case err == nil:
			nodes[name] = Vital{Since: nodes[name].Since, Evicted: true}
		case ctx.Err() == nil && !controller.IsStale(err):
			l.Logger.Warn("eviction failed", "node", name, "error", err)
		}
	}
	return again, nil
}

// evict removes what runs, or ends, on a node, on condition that its lease is
// still gone. Pods that have finished stay: they need no other node.
func (l *life) evict(ctx context.Context, node string) error {
	gone := &registry.Guard{Key: schema.NodeLeasePrefix + node, Mod: registry.Absent}
	var writes []registry.Write
	var pods []*corev1.Pod
	for _, key := range l.Writer.Mirror.PodsOn(node) {
		pod, ok := l.Writer.Mirror.Get(key).(*corev1.Pod)
		finished := ok && (pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed)
		if !ok || finished && pod.DeletionTimestamp == nil || pod.Annotations[schema.MirrorAnnotation] != "" {
			continue
		}
		pods = append(pods, pod)
		writes = append(writes, registry.Write{Delete: &registry.Deletion{Key: key, UID: pod.UID, GraceSeconds: new(int64)}, Guard: gone})
	}
	if len(writes) == 0 {
		return nil
	}
	l.Logger.Warn("evicting pods", "node", node, "pods", len(pods))
	if err := l.Writer.CommitAll(ctx, writes); err != nil {
		return err
	}
	for _, pod := range pods {
		l.Recorder.Event(pod, corev1.EventTypeWarning, "TaintManagerEviction", fmt.Sprintf("Deleted pod %s/%s: node %s is gone", pod.Namespace, pod.Name, node))
	}
	return nil
}
