// Package control puts the control plane together: sources, the reconciler,
// the scheduler and the controllers, under one election. `reconcile` and
// `reconcile up` call it.
package control

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/manifests/dir"
	"github.com/evenkeel/evenkeel/manifests/git"
	"github.com/evenkeel/evenkeel/manifests/kustomize"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/controller/manager"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// Flags say what is followed and how objects are made.
type Flags struct {
	Ref         string
	Path        string
	Interval    time.Duration
	PodCIDR     string
	ServiceCIDR string
	MaxDelete   reconciler.MaxDelete
	Approve     []string
	Ignore      []string
	EvictAfter  time.Duration
	API         APIFlags
}

// AddSourceFlags adds the flags that say how sources are read.
func (f *Flags) AddSourceFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Ref, "ref", "", "branch, tag or commit of git sources (default: the repository's HEAD)")
	cmd.Flags().StringVar(&f.Path, "path", "", "directory within git sources that holds the manifests")
	cmd.Flags().DurationVar(&f.Interval, "interval", time.Minute, "time between fetches of remote git sources")
	cmd.Flags().Var(&f.MaxDelete, "max-delete", "how many of a source's objects, or how many percent of them, a revision may delete without approval; 100% is all")
	cmd.Flags().StringSliceVar(&f.Ignore, "ignore", nil, "codes of checks that are turned off: W0601,W0602")
	cmd.Flags().StringSliceVar(&f.Approve, "approve", nil, "hash of a held plan that may pass all the same")
}

// AddClusterFlags adds the flags that say how a cluster is laid out.
func (f *Flags) AddClusterFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.PodCIDR, "pod-cidr", "10.244.0.0/16", "range of pod addresses; each node gets a /24 of it")
	cmd.Flags().StringVar(&f.ServiceCIDR, "service-cidr", registry.DefaultServiceCIDR.String(), "range of cluster IPs")
	cmd.Flags().DurationVar(&f.EvictAfter, "evict-after", 5*time.Second, "how long after a node's lease has run out its pods are given to others")
}

// Sources makes the sources that a person named: directories, git URLs and
// repositories on this machine.
func (f *Flags) Sources(places []string, dataDir string, logger *slog.Logger) ([]manifests.Source, error) {
	var out []manifests.Source
	for _, place := range places {
		source, err := f.source(place, dataDir, logger)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", place, err)
		}
		if slices.ContainsFunc(out, func(s manifests.Source) bool { return s.Name() == source.Name() }) {
			return nil, fmt.Errorf("source %s is given twice", place)
		}
		out = append(out, source)
	}
	return out, nil
}

func (f *Flags) source(place, dataDir string, logger *slog.Logger) (manifests.Source, error) {
	if git.IsRepository(place) {
		return rendered(git.New(git.Config{URL: place, Ref: f.Ref, Path: f.Path, Interval: f.Interval, Dir: filepath.Join(dataDir, "git"), Logger: logger}))
	}
	if _, err := os.Stat(place); err != nil {
		return nil, fmt.Errorf("neither a directory nor a git repository: %w", err)
	}
	return rendered(dir.New(dir.Config{Path: place, Logger: logger}))
}

// rendered is a source whose kustomizations are rendered.
func rendered[S manifests.Source](source S, err error) (manifests.Source, error) {
	if err != nil {
		return nil, err
	}
	return kustomize.NewSource(source), nil
}

// Config is a control plane to run.
type Config struct {
	Flags
	Sources    []manifests.Source
	Store      registry.Store
	Synced     func(reconciler.Head, manifests.Diagnostics)
	Logger     *slog.Logger
	Registerer prometheus.Registerer

	DataDir string     // where the kubeconfig is written
	NodeIP  netip.Addr // of the node in this process, if there is one: its pods reach the API there
}

// Run stands for election and runs the control plane while this process leads.
func Run(ctx context.Context, cfg Config) error {
	podCIDR, err := netip.ParsePrefix(cfg.PodCIDR)
	if err != nil {
		return fmt.Errorf("--pod-cidr: %w", err)
	}
	serviceCIDR, err := netip.ParsePrefix(cfg.ServiceCIDR)
	if err != nil {
		return fmt.Errorf("--service-cidr: %w", err)
	}
	if podCIDR.Overlaps(serviceCIDR) {
		return fmt.Errorf("--pod-cidr %s and --service-cidr %s overlap", podCIDR, serviceCIDR)
	}
	off, err := check.Disable(cfg.Ignore...)
	if err != nil {
		return fmt.Errorf("--ignore: %w", err)
	}
	if err := cfg.API.validate(); err != nil {
		return err
	}
	p := &plane{Config: cfg, podCIDR: podCIDR, off: off}
	p.regs = registry.New(cfg.Store, registry.Config{Validator: validation.Rules{}, ServiceCIDR: serviceCIDR, ServiceAccounts: cfg.API.served()})
	p.mirror = registry.NewMirror(registry.MirrorConfig{Store: cfg.Store, Logger: cfg.Logger, Skip: skipped})
	g, ctx := errgroup.WithContext(ctx)
	if cfg.API.served() {
		if p.api, err = openAPI(ctx, cfg, p.regs, p.mirror, firstAddress(serviceCIDR)); err != nil {
			return err
		}
		g.Go(func() error { return p.api.run(ctx) })
	}
	g.Go(func() error { return p.mirror.Run(ctx) })
	election := registry.ElectionConfig{Store: cfg.Store, Role: "reconcile", ID: processID(), Dead: isDead, Logger: cfg.Logger}
	g.Go(func() error { return registry.Lead(ctx, election, p.lead) })
	return g.Wait()
}

// plane is a control plane that runs: whether or not it leads, it knows the
// cluster and serves the API.
type plane struct {
	Config
	podCIDR netip.Prefix
	off     check.Disabled
	regs    *registry.Registries
	mirror  *registry.Mirror
	api     *api // nil if none is served
}

// lead runs the reconciler, the scheduler and the controllers for one term.
func (p *plane) lead(ctx context.Context, fence registry.Guard) error {
	p.Logger.Debug("leading", "id", processID())
	select { // all that earlier leaders wrote is known before anything is decided
	case <-ctx.Done():
		return nil
	case <-p.mirror.Synced():
	}
	if err := p.mirror.WaitFor(ctx, fence.Mod); err != nil {
		return nil
	}
	regs := p.regs.Fenced(fence)
	recorder := registry.NewRecorder(registry.RecorderConfig{Store: p.Store, Component: "reconcile", Logger: p.Logger})
	registerer := prometheus.NewRegistry() // a second term registers anew
	if err := p.Registerer.Register(registerer); err != nil {
		return err
	}
	defer p.Registerer.Unregister(registerer)
	controllers := manager.Config{
		Registries: regs, Mirror: p.mirror, Recorder: recorder, Logger: p.Logger, Registerer: registerer,
		PodCIDR: p.podCIDR, EvictAfter: p.EvictAfter,
	}
	if p.api != nil {
		controllers.API = p.api.controllers()
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return recorder.Run(ctx) })
	g.Go(func() error { return manager.Run(ctx, controllers) })
	g.Go(func() error {
		return reconciler.Run(ctx, reconciler.Config{
			Sources: p.Sources, Registries: regs, Mirror: p.mirror, Validator: validation.Rules{}, MaxDelete: p.MaxDelete,
			Approve: p.Approve, Checks: NewChecks(p.mirror, p.off), Synced: p.Synced, Logger: p.Logger, Registerer: registerer,
		})
	})
	return g.Wait()
}

// skipped are the keys that the control plane decides nothing by.
func skipped(key string) bool {
	return strings.HasPrefix(key, schema.Events.Prefix("")) || strings.HasPrefix(key, schema.PKIPrefix)
}
