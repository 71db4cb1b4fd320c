package main

import (
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
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
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
}

func (d *dryRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.enabled, "dry-run", false, "read, validate and diff, print the plan, change nothing")
	cmd.Flags().BoolVar(&d.detailed, "detailed-exitcode", false, "with --dry-run: exit 2 when changes are pending")
}

func (d *dryRun) run(cmd *cobra.Command, sources []manifests.Source, etcd backend.Flags, flags control.Flags, logger *slog.Logger) error {
	ctx := cmd.Context()
	var snapshots []manifests.Snapshot
	for _, source := range sources {
		snapshot, err := source.Snapshot(ctx)
		if err != nil {
			return fmt.Errorf("source %s: %w", source.Name(), err)
		}
		snapshots = append(snapshots, snapshot)
	}
	sets, findings := manifests.NewLoader().Load(ctx, snapshots...)
	if err := ctx.Err(); err != nil {
		return err
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
	in := reconciler.Input{
		Desired: reconciler.NewDesired(sets...), Inventory: reconciler.Inventory{}, Read: map[string]bool{}, Validator: reconciler.Rules{},
		Live: func(schema.Key) schema.Object { return nil },
	}
	for _, set := range sets {
		in.Read[set.Source] = true
	}
	var heads map[string]reconciler.Head
	if etcd.Given() {
		var err error
		if heads, err = addLive(ctx, &in, etcd, logger); err != nil {
			return err
		}
	}
	plan, err := reconciler.Diff(in)
	if err != nil {
		return err
	}
	candidates := map[string]reconciler.Candidate{}
	for i, set := range sets {
		candidates[set.Source] = reconciler.CandidateOf(ctx, sources[i], set, heads[set.Source].Revision)
	}
	plan.Guard(in.Inventory, candidates, flags.MaxDelete)
	plan.Approve(flags.Approve...)
	return d.show(cmd, plan)
}

func (d *dryRun) show(cmd *cobra.Command, plan *reconciler.Plan) error {
	if err := plan.Render(cmd.OutOrStdout()); err != nil {
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

// addLive reads the live state and the inventory.
func addLive(ctx context.Context, in *reconciler.Input, etcd backend.Flags, logger *slog.Logger) (map[string]reconciler.Head, error) {
	mirror, err := readMirror(ctx, etcd, logger)
	if err != nil {
		return nil, err
	}
	in.Live = mirror.Get
	var heads map[string]reconciler.Head
	in.Inventory, heads, err = reconciler.Books(mirror.Raw(schema.SourcesPrefix))
	return heads, err
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
