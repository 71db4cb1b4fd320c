package nodelife

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
)

// Defaults of a zero Config.
var (
	DefaultPodCIDR    = netip.MustParsePrefix("10.244.0.0/16")
	DefaultEvictAfter = 5 * time.Second
)

// Config says what the controller works on; Writer, Recorder and Logger are
// required.
type Config struct {
	Writer     controller.Writer
	Recorder   controller.Recorder
	Metrics    *controller.Metrics
	Logger     *slog.Logger
	PodCIDR    netip.Prefix  // IPv4; every node gets a /24 of it
	EvictAfter time.Duration // how long a node is gone, beyond its lease, before it is given up
}

func (c *Config) validate() error {
	if !c.PodCIDR.IsValid() {
		c.PodCIDR = DefaultPodCIDR
	}
	if c.EvictAfter == 0 {
		c.EvictAfter = DefaultEvictAfter
	}
	switch {
	case !c.PodCIDR.Addr().Is4():
		return fmt.Errorf("nodelife: PodCIDR is %s, must be IPv4", c.PodCIDR)
	case c.EvictAfter < 0:
		return fmt.Errorf("nodelife: EvictAfter is %v, must be positive", c.EvictAfter)
	}
	return nil
}

// life keeps the nodes of a cluster.
type life struct{ Config }

// Run keeps the nodes until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	l := &life{cfg}
	registration := controller.Loop{
		Name: "nodelife", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Nodes}, Raw: schema.PodCIDRsPrefix, Map: l.dirty, Reconcile: l.reconcile,
		Workers: 1, // ranges are chosen one after the other
		Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return registration.Run(ctx) })
	g.Go(func() error { return l.watchHealth(ctx) })
	return g.Wait()
}
