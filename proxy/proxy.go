// Package proxy makes services reachable: it compiles services and endpoint
// slices to a plain ruleset and keeps a backend holding exactly that.
//
// cmd/proxy runs it, once per node, over the registry's listers. The package
// decides and drives; how packets are moved is a backend's business, and which
// pods back a service was decided by whoever wrote the endpoint slices.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Backend moves the packets of a ruleset.
type Backend interface {
	// Sync makes what is in force exactly the ruleset, and returns once it is.
	// Connections to endpoints that stay are not disturbed. After an error part
	// of it may be in force; calling Sync again continues. Sync with an unchanged
	// ruleset repairs what others broke.
	Sync(ctx context.Context, rules Ruleset) error
	// Cleanup removes all that the backend ever made, also in an earlier process.
	Cleanup(ctx context.Context) error
}

// Source is where services and endpoint slices are read.
type Source interface {
	// Snapshot returns all services and slices at one moment. The caller changes
	// nothing in them. ready is false until both were listed completely once.
	Snapshot() (services []*corev1.Service, slices []*discoveryv1.EndpointSlice, ready bool)
	// Changed delivers a value after each change since the last receive, several
	// changes counting as one. Its capacity is at least one. It never closes.
	Changed() <-chan struct{}
}

// Config is what Run needs.
type Config struct {
	// Node is the name of the node the proxy works for.
	Node string
	// NodeIPs are the node's own addresses; endpoints there are local.
	NodeIPs []netip.Addr
	// Source and Backend are required.
	Source  Source
	Backend Backend
	// Logger default: none.
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are published.
	Registerer prometheus.Registerer
	// MinInterval is the least time between two syncs, so that a burst of changes
	// becomes one. Default: 10 ms.
	MinInterval time.Duration
	// ResyncInterval is how often an unchanged ruleset is verified. Default: 1 min.
	ResyncInterval time.Duration
}

func (c Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("proxy config: Node is empty")
	case c.Source == nil:
		return errors.New("proxy config: Source is nil")
	case c.Backend == nil:
		return errors.New("proxy config: Backend is nil")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MinInterval <= 0 {
		c.MinInterval = 10 * time.Millisecond
	}
	if c.ResyncInterval <= 0 {
		c.ResyncInterval = time.Minute
	}
	return c
}

const (
	firstBackOff = 100 * time.Millisecond
	lastBackOff  = 10 * time.Second
)

// Run keeps the backend in step with the source until ctx ends, and then
// returns nil, leaving all rules in force. It programs nothing before the
// source is ready. A failing backend is retried with growing pauses.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return fmt.Errorf("register proxy metrics: %w", err)
	}
	l := loop{cfg: cfg, metrics: m, backOff: firstBackOff}
	for ctx.Err() == nil {
		wait := l.step(ctx)
		if !sleep(ctx, cfg.MinInterval) {
			break
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.changed():
		case <-timer.C:
			l.due = true
		}
		timer.Stop()
	}
	return nil
}

type loop struct {
	cfg     Config
	metrics *metrics
	last    Ruleset // what the backend holds
	synced  bool    // whether last is in force
	due     bool    // verify even when nothing changed
	backOff time.Duration
}

// changed is nil while the backend fails, so that a busy source cannot make
// the retries come faster than the back-off.
func (l *loop) changed() <-chan struct{} {
	if l.backOff > firstBackOff {
		return nil
	}
	return l.cfg.Source.Changed()
}

// step syncs once if there is something to do, and says how long to wait for a
// change before the next.
func (l *loop) step(ctx context.Context) time.Duration {
	services, slices, ready := l.cfg.Source.Snapshot()
	if !ready {
		return l.cfg.ResyncInterval
	}
	rules := Compile(services, slices, Options{NodeName: l.cfg.Node, NodeIPs: l.cfg.NodeIPs})
	if l.synced && !l.due && reflect.DeepEqual(rules, l.last) {
		return l.cfg.ResyncInterval
	}
	start := time.Now()
	err := l.cfg.Backend.Sync(ctx, rules)
	l.metrics.observe(rules, time.Since(start), err)
	if err != nil {
		return l.failed(ctx, err)
	}
	l.cfg.Logger.Debug("services programmed", "services", len(rules.Services), "took", time.Since(start))
	l.last, l.synced, l.due, l.backOff = rules, true, false, firstBackOff
	return l.cfg.ResyncInterval
}

func (l *loop) failed(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	wait := l.backOff
	l.cfg.Logger.Error("programming services failed", "err", err, "retry_in", wait)
	l.synced = false
	l.backOff = min(2*l.backOff, lastBackOff)
	return wait
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
