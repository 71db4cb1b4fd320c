package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/control"
	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Exit codes of a dry run.
const (
	exitErrors  = 1
	exitPending = 2
	exitHeld    = 3
)

// mirrorTimeout bounds the reading of the live state.
const mirrorTimeout = 30 * time.Second

// dryRun reads, validates, diffs and prints the plan, and changes nothing.
type dryRun struct {
	enabled  bool
	detailed bool
	base     string // revision
	state    string // file
}

func (d *dryRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.enabled, "dry-run", false, "read, validate and diff, print the plan, change nothing")
	cmd.Flags().BoolVar(&d.detailed, "detailed-exitcode", false, "with --dry-run: exit 2 when changes are pending")
	cmd.Flags().StringVar(&d.base, "base", "", "with --dry-run: plan against what this revision of the same repository declares, without a cluster: what would merging change?")
	cmd.Flags().StringVar(&d.state, "state", "", "with --dry-run: plan against a file that `reconcile export` wrote, - for stdin")
	cmd.MarkFlagsMutuallyExclusive("base", "state", "etcd")
}

// dryInput is what a dry run is about.
type dryInput struct {
	places  []string
	sources []manifests.Source
	etcd    backend.Flags
	flags   control.Flags
	dataDir string
	logger  *slog.Logger
}

func (d *dryRun) run(cmd *cobra.Command, in dryInput) error {
	ctx := cmd.Context()
	snapshots, err := in.snapshots(ctx)
	if err != nil {
		return err
	}
	loader := manifests.NewLoader()
	base, err := d.readBase(cmd, in, loader, snapshots)
	if err != nil {
		return err
	}
	sets, findings := loader.Load(ctx, snapshots...)
	if err := ctx.Err(); err != nil {
		return err
	}
	if !findings.HasErrors() {
		checked, err := in.check(base, sets, snapshots, d.live(in))
		if err != nil {
			return err
		}
		findings = manifests.Join(findings, checked)
	}
	if len(findings) > 0 {
		if err := findings.Render(cmd.ErrOrStderr()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	if errs, warnings := findings.Count(); errs > 0 {
		return &command.ExitError{Code: exitErrors, Err: fmt.Errorf("%d errors, %d warnings: no plan", errs, warnings)}
	}
	plan, err := base.Plan(reconciler.Rules{}, sets...)
	if err != nil {
		return err
	}
	plan.Guard(base.Inventory, d.candidates(ctx, in, base, sets), in.flags.MaxDelete)
	plan.Approve(in.flags.Approve...)
	return d.show(cmd, plan)
}

func (in dryInput) snapshots(ctx context.Context) ([]manifests.Snapshot, error) {
	var out []manifests.Snapshot
	for _, source := range in.sources {
		snapshot, err := source.Snapshot(ctx)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", source.Name(), err)
		}
		out = append(out, snapshot)
	}
	return out, nil
}

// live reports whether the base is a whole cluster.
func (d *dryRun) live(in dryInput) bool { return in.etcd.Given() || d.state != "" }

// check looks at all objects together, those of the cluster included.
func (in dryInput) check(base *reconciler.Base, sets []*manifests.Set, snapshots []manifests.Snapshot, live bool) (manifests.Diagnostics, error) {
	off, err := check.Disable(in.flags.Ignore...)
	if err != nil {
		return nil, fmt.Errorf("--ignore: %w", err)
	}
	cluster := check.Cluster{}
	if live {
		cluster = control.ClusterOf(base, sets)
	}
	found := check.Check(sets, cluster, off)
	manifests.Quote(found, snapshots...)
	return found, nil
}

// candidates describes the sources for the guards. What would be merged comes
// to descend from its base by that.
func (d *dryRun) candidates(ctx context.Context, in dryInput, base *reconciler.Base, sets []*manifests.Set) map[string]reconciler.Candidate {
	out := map[string]reconciler.Candidate{}
	for i, set := range sets {
		inForce := base.Heads[set.Source].Revision
		if d.base != "" {
			inForce = ""
		}
		out[set.Source] = reconciler.CandidateOf(ctx, in.sources[i], set, inForce)
	}
	return out
}

func (d *dryRun) show(cmd *cobra.Command, plan *reconciler.Plan) error {
	out := bufio.NewWriter(cmd.OutOrStdout())
	if err := errors.Join(plan.Render(out), out.Flush()); err != nil {
		return err
	}
	switch {
	case len(plan.Problems) > 0:
		return &command.ExitError{Code: exitErrors, Err: fmt.Errorf("%d objects cannot be applied", len(plan.Problems))}
	case len(plan.Holds) > 0:
		return &command.ExitError{Code: exitHeld, Err: fmt.Errorf("the plan is held: %s", plan.Holds[0].Message())}
	case d.detailed && plan.Pending():
		return &command.ExitError{Code: exitPending}
	}
	return nil
}

// readMirror returns the state as it is now; it is not kept up.
func readMirror(ctx context.Context, etcd backend.Flags, logger *slog.Logger) (*registry.Mirror, error) {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	store, closeStore, err := etcd.Open(ctx, logger)
	if err != nil {
		return nil, err
	}
	defer closeStore()
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger})
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	select {
	case <-mirror.Synced():
	case <-ctx.Done():
		err = errors.New("the state in etcd could not be read in time")
	}
	stop()
	return mirror, errors.Join(err, <-done)
}

// logHead logs how a source fared, with every error of its manifests.
func logHead(logger *slog.Logger) func(reconciler.Head, manifests.Diagnostics) {
	return func(h reconciler.Head, findings manifests.Diagnostics) {
		if h.Result == reconciler.Applied {
			logger.Info("source in force", "source", h.Source, "revision", h.Revision, "objects", h.Objects)
			return
		}
		logger.Error("source not in force", "source", h.Source, "result", h.Result, "revision", h.Seen, "message", h.Message)
		for _, f := range findings {
			logger.Error("manifest", "source", h.Source, "finding", f.String())
		}
	}
}
