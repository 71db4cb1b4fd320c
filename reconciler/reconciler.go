package reconciler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what a reconciler follows and where it writes.
type Config struct {
	Sources    []manifests.Source
	Registries *registry.Registries // fenced, where several processes may lead
	Mirror     *registry.Mirror     // of all under schema.Root; running
	Validator  registry.Validator

	// Checks, if set, look at all that is to be in force together, with what is
	// there, before a new revision is tried. Their errors refuse the revision as
	// those of a file do.
	Checks Checks

	// MaxDelete is what a revision may delete without being held; Approve holds
	// the hashes of plans that pass all the same. See Plan.Guard.
	MaxDelete MaxDelete
	Approve   []string

	// Synced, if set, is told each source's head whenever it changes, from
	// Run's goroutine.
	Synced func(Head, manifests.Diagnostics)

	Logger     *slog.Logger          // required
	Registerer prometheus.Registerer // default: none
}

// Checks are called from Run's goroutine alone. The inventory is the current
// one, and is not kept.
type Checks interface {
	// Moved names objects that are others than before, or whose entries in the
	// inventory are; at first all that the mirror holds of the declarable kinds.
	Moved(keys []schema.Key, inventory Inventory)

	// Check returns what is wrong with the sets together.
	Check(sets []*manifests.Set, inventory Inventory) manifests.Diagnostics
}

func (c *Config) validate() error {
	if c.Registries == nil || c.Mirror == nil || c.Validator == nil || c.Logger == nil {
		return errors.New("reconciler: Registries, Mirror, Validator and Logger are required")
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Synced == nil {
		c.Synced = func(Head, manifests.Diagnostics) {}
	}
	return nil
}

// declarable are the kinds whose objects a source can own.
func declarable() []*schema.Kind {
	var out []*schema.Kind
	for _, kind := range schema.Kinds {
		if kind.Declarable {
			out = append(out, kind)
		}
	}
	return out
}

// retryAfter is how long a sync that failed for no fault of the manifests
// waits.
const retryAfter = time.Second

// Run follows the sources and keeps the registries as they declare until ctx
// ends (nil) or the process no longer leads (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	l := newLoop(cfg)
	g, ctx := errgroup.WithContext(ctx)
	for _, source := range cfg.Sources {
		g.Go(func() error { return l.inbox.follow(ctx, source, cfg.Logger) })
		g.Go(func() error { return l.followApproval(ctx, source.Name()) })
	}
	g.Go(func() error { return l.run(ctx) })
	return g.Wait()
}

// run syncs whenever a source or an object moved.
func (l *loop) run(ctx context.Context) error {
	sub := l.cfg.Mirror.Subscribe(declarable()...)
	defer sub.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-l.cfg.Mirror.Synced():
	}
	if err := l.readBooks(); err != nil {
		return fmt.Errorf("reconciler: inventory: %w", err)
	}
	l.moved(sub.Take())
	for {
		var retry <-chan time.Time
		switch err := l.sync(ctx, sub.Take()); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, registry.ErrFenced):
			return err
		case errors.Is(err, ErrOutdated):
			l.full = true
			retry = time.After(10 * time.Millisecond)
		case err != nil:
			l.full = true
			l.cfg.Logger.Warn("sync failed, will be tried again", "error", err)
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.inbox.ready:
		case <-sub.Ready():
		case <-retry:
		}
	}
}
