package nodeagent

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// presence is how sure the agent is that the node's lease has not run out. It
// counts from when the last successful renewal was asked for, on this machine's
// monotonic clock: whatever the store's clock says, the lease lives that long.
type presence struct {
	registry.Store // KeepAlive through it counts as renewal
	ttl            time.Duration
	began          time.Time
	changed        chan struct{} // has room for one

	mu      sync.Mutex
	renewed time.Time // zero: not since this process began
}

func newPresence(store registry.Store, ttl time.Duration) *presence {
	return &presence{Store: store, ttl: ttl, began: time.Now(), changed: make(chan struct{}, 1)}
}

// KeepAlive implements registry.Store.
func (p *presence) KeepAlive(ctx context.Context, id registry.LeaseID) error {
	began := time.Now()
	err := p.Store.KeepAlive(ctx, id)
	if err == nil {
		p.renew(began)
	}
	return err
}

func (p *presence) renew(at time.Time) {
	p.mu.Lock()
	p.renewed = at
	p.mu.Unlock()
	poke(p.changed)
}

// Of a lease's time, after seven tenths without renewal the node counts as cut
// off: with three tries in each TTL, two have failed. One tenth is for ending
// what must not run elsewhere too, the rest is room.
func (p *presence) deadlines() (cutOff, stopped time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.renewed.IsZero() {
		return time.Time{}, time.Time{}
	}
	return p.renewed.Add(p.ttl * 7 / 10), p.renewed.Add(p.ttl * 8 / 10)
}

func (p *presence) isCutOff(now time.Time) bool {
	at, _ := p.deadlines()
	return !now.Before(at)
}

// unknown is for how long it is not to be judged by: a process that has just
// begun has two tenths of a lease's time to hear of it.
func (p *presence) unknown(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.renewed.IsZero() {
		return 0
	}
	return max(0, p.began.Add(p.ttl*2/10).Sub(now))
}

// followPresence tells the workers when the node is cut off, and when it no
// longer is.
func (a *agent) followPresence(ctx context.Context) error {
	cutOff := true // nothing is known at first
	for {
		at, _ := a.presence.deadlines()
		if now := a.presence.isCutOff(time.Now()); now != cutOff {
			cutOff = now
			a.tell(news{})
		}
		var alarm <-chan time.Time // never, while it is cut off
		if !cutOff {
			alarm = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.presence.changed:
		case <-alarm:
		}
	}
}

// keepEarlierLease keeps the lease alive that an earlier process of the node
// left, until ctx ends or it is gone: the node is not away while this process
// takes it over.
func (a *agent) keepEarlierLease(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		kv, err := a.cfg.Store.Get(ctx, schema.NodeLeasePrefix+a.cfg.Node)
		if errors.Is(err, registry.ErrNotFound) || err == nil && kv.Lease == 0 {
			return
		}
		if err == nil && a.presence.KeepAlive(ctx, kv.Lease) == nil {
			a.presence.renew(began)
			_ = registry.HoldLease(ctx, a.presence, kv.Lease, a.cfg.LeaseTTL)
			return
		}
		wait(ctx, storeRetry)
	}
}

// mustStop reports whether a pod asks not to run while its node is cut off, and
// the node is.
func (w *worker) mustStop(now time.Time) bool {
	return w.heedsPresence() && w.agent.presence.isCutOff(now)
}

// heedsPresence reports whether it matters to a pod that the node has a lease;
// without a control plane there is none to have.
func (w *worker) heedsPresence() bool { return stopsWhenCutOff(w.pod) && !w.agent.cfg.Standalone }

func stopsWhenCutOff(pod *corev1.Pod) bool {
	return pod != nil && pod.Annotations[schema.CutOffAnnotation] == schema.CutOffStop
}

const cutOffReason = "the node is cut off, and the pod may soon run elsewhere"

// stepCutOff stops what runs, to start it anew when the node is no longer cut
// off and the pod still here.
func stepCutOff(o Observed) Decision {
	var d Decision
	for _, c := range o.Containers {
		if c.State == runtime.Exited || c.State == runtime.Created || o.Stopping[c.ID] {
			continue
		}
		d.Actions = append(d.Actions, Action{
			Kind: Stop, ID: c.ID, Replace: true, Reason: cutOffReason,
		})
	}
	d.stopEphemeral(o, cutOffReason)
	return d
}
