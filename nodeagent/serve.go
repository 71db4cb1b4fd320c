package nodeagent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// serve keeps the bindings up and gives every pod that is bound, or found on
// the machine, a worker.
func (a *agent) serve(ctx context.Context, spawn func(*worker)) error {
	prefix := schema.BindingPrefix(a.cfg.Node)
	sub := a.mirror.SubscribeRaw(prefix)
	defer sub.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-a.mirror.Synced():
	}
	for {
		if err := a.takeBindings(ctx, prefix, spawn); err != nil {
			a.cfg.Logger.Error("bindings not taken; all pods stay as they are", "error", err)
		}
		if sub.Next(ctx) == nil {
			return nil
		}
	}
}

// takeBindings takes one whole reading. One without the mark of the node is
// no reading: the store is empty, or the control plane has not been here yet.
func (a *agent) takeBindings(ctx context.Context, prefix string, spawn func(*worker)) error {
	values := map[string][]byte{}
	for _, kv := range a.mirror.Raw(prefix) {
		values[kv.Key] = kv.Value
	}
	if _, marked := values[prefix+schema.BindingNodeName]; !marked {
		a.cfg.Logger.Debug("bindings without the mark of their node", "keys", len(values))
		return nil
	}
	c, err := a.bindings.load(prefix, values)
	if err != nil {
		return err
	}
	if c.node {
		if err := a.takeNode(a.bindings.nodeObject()); err != nil {
			return err
		}
	}
	if c.peers {
		a.takePeers(ctx)
	}
	a.bound(c, spawn)
	return nil
}

// bound starts the workers of pods that are new, wakes those whose pod or
// whose config maps and secrets changed, and once, at first, gives a worker to
// each pod that is on the machine without being bound.
func (a *agent) bound(c changed, spawn func(*worker)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	uids := c.pods
	if !a.counting {
		for uid := range a.leftover {
			if a.bindings.pod(uid) != nil {
				delete(a.leftover, uid)
			} else {
				uids = append(uids, uid)
			}
		}
		a.counting = true
		a.settleLocked()
	}
	for _, uid := range uids {
		if a.workers[uid] == nil {
			w := newWorker(a, uid)
			a.workers[uid] = w
			spawn(w)
		}
		a.workers[uid].wake()
	}
	if c.refs {
		for _, w := range a.workers {
			w.refsChanged()
		}
	}
	a.metrics.pods.Set(float64(len(a.workers)))
}

// gone is called by a worker of whose pod nothing is left and which nobody
// wants. It reports false if the pod is wanted after all.
func (a *agent) gone(uid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bindings.pod(uid) != nil {
		return false
	}
	delete(a.workers, uid)
	delete(a.leftover, uid)
	a.settleLocked()
	a.metrics.pods.Set(float64(len(a.workers)))
	return true
}

// settleLocked notes that nothing is left on the machine that an earlier
// process had and that is no longer bound here.
func (a *agent) settleLocked() {
	if a.counting && len(a.leftover) == 0 && !isClosed(a.settled) {
		close(a.settled)
		a.pokeNode()
	}
}

func (a *agent) pokeNode() {
	select {
	case a.nodeChanged <- struct{}{}:
	default:
	}
}

// wake tells a pod's worker to look again.
func (a *agent) wake(uid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[uid]; w != nil {
		w.wake()
	}
}

// ImagesChanged tells workers that wait for an image to try again.
func (a *agent) imagesChanged() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.imagesChanged()
	}
}

// resync repairs what went wrong without anybody hearing of it.
func (a *agent) resync(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.cfg.ImagesChanged:
			a.imagesChanged()
		case <-time.After(resync):
			a.takePeers(ctx)
		}
	}
}

// before is what an earlier process of this node last said of a pod.
func (a *agent) before(pod *corev1.Pod) corev1.PodStatus { return a.reports[pod.UID] }
