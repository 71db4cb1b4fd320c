package nodeagent

import (
	"context"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// serve keeps the bindings up and gives every pod that is bound, or found on
// the machine, a worker.
func (a *agent) serve(ctx context.Context, spawn func(*worker)) {
	prefix := schema.BindingPrefix(a.cfg.Node)
	sub := a.mirror.SubscribeRaw(prefix)
	defer sub.Close()
	select {
	case <-ctx.Done():
		return
	case <-a.mirror.Synced():
	}
	for {
		if err := a.takeBindings(prefix, spawn); err != nil {
			a.cfg.Logger.Error("bindings not taken; all pods stay as they are", "error", err)
		}
		if sub.Next(ctx) == nil {
			return
		}
	}
}

// takeBindings takes one whole reading. One without the mark of the node is
// no reading: the store is empty, or the control plane has not been here yet.
func (a *agent) takeBindings(prefix string, spawn func(*worker)) error {
	values, newest := map[string][]byte{}, int64(0)
	for _, kv := range a.mirror.Raw(prefix) {
		values[kv.Key] = kv.Value
		newest = max(newest, kv.Mod)
	}
	if _, marked := values[prefix+schema.BindingNodeName]; !marked {
		a.cfg.Logger.Debug("bindings without the mark of their node", "keys", len(values))
		return nil
	}
	c, err := a.bindings.load(prefix, values)
	if err != nil {
		return err
	}
	a.bindings.setNewest(newest)
	if c.node {
		// Before the pods, which need an address; keepRoutes tries again.
		if err := a.setPodCIDR(); err != nil {
			a.cfg.Logger.Error("pods get no address", "error", err)
		}
	}
	if c.node || c.peers {
		poke(a.routesChanged)
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
	a.wakeLocked(uids, spawn)
	for _, uid := range c.mirrors {
		a.mirrorChanged(uid)
	}
	for _, uid := range c.tokens {
		if w := a.workers[uid]; w != nil {
			w.tell(news{refs: true})
		}
	}
	if len(c.refs) > 0 {
		for uid, w := range a.workers {
			if pod := a.bindings.pod(uid); pod != nil && refersTo(pod, c.refs) {
				w.tell(news{refs: true})
			}
		}
	}
	a.metrics.pods.Set(float64(len(a.workers)))
}

// wakeLocked wakes the workers of pods, and makes those that are missing.
func (a *agent) wakeLocked(uids []string, spawn func(*worker)) {
	for _, uid := range uids {
		if a.workers[uid] == nil {
			w := newWorker(a, uid, a.takeReportLocked(uid))
			a.workers[uid] = w
			a.admit(w)
			spawn(w)
		}
		poke(a.workers[uid].awake)
	}
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
		poke(a.nodeChanged)
	}
}

// tell gives news to all workers.
func (a *agent) tell(n news) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.tell(n)
	}
}

// wake tells the pods' workers to look again.
func (a *agent) wake(uids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, uid := range uids {
		if w := a.workers[uid]; w != nil {
			poke(w.awake)
		}
	}
}

// answered is called when the container runtime begins or ceases to answer.
func (a *agent) answered() {
	a.tell(news{runtime: true})
	poke(a.nodeChanged)
}

// followImages tells workers that wait for an image of the ones that came.
func (a *agent) followImages(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-a.cfg.ImagesChanged:
			if !ok {
				return nil
			}
			a.tell(news{images: true})
		}
	}
}

// poke leaves a note in a channel with room for one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
