package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/control"
	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/effects"
	"github.com/evenkeel/evenkeel/reconciler/report"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
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
	nodes    []string
	format   report.Format
}

func (d *dryRun) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.enabled, "dry-run", false, "read, validate and diff, print the plan, change nothing")
	cmd.Flags().BoolVar(&d.detailed, "detailed-exitcode", false, "with --dry-run: exit 2 when changes are pending")
	cmd.Flags().StringVar(&d.base, "base", "", "with --dry-run: plan against what this revision of the same repository declares, without a cluster: what would merging change?")
	cmd.Flags().StringVar(&d.state, "state", "", "with --dry-run: plan against a `FILE` that reconcile export wrote, - for stdin")
	cmd.Flags().StringArrayVar(&d.nodes, "nodes", nil, "with --dry-run: place pods on nodes like these, 3x4cpu,8Gi, and not on the known ones; may be repeated")
	d.format = report.Text
	cmd.Flags().VarP(&d.format, "output", "o", "with --dry-run: text, json (one object a line), github, sarif, junit or markdown (see docs/ci.md)")
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
	progress := report.NewProgress(os.Stderr, os.Getenv)
	var r report.Report
	var err error
	progress.While(func() { r, err = d.look(cmd, in, progress) })
	if err != nil {
		return err
	}
	ends := d.verdict(r)
	var exit *command.ExitError
	if errors.As(ends, &exit) {
		r.ExitCode = exit.Code
	}
	if err := d.write(cmd, r); err != nil {
		return err
	}
	return ends
}

// look finds out all that there is to report.
func (d *dryRun) look(cmd *cobra.Command, in dryInput, progress *report.Progress) (report.Report, error) {
	var r report.Report
	ctx := cmd.Context()
	progress.Show("reading "+strings.Join(in.places, ", "), 0, 0)
	spendMemory(0)
	snapshots, err := in.snapshots(ctx)
	if err != nil {
		return r, err
	}
	files := 0
	for _, s := range snapshots {
		files += len(s.Files)
	}
	spendMemory(files)
	loader := manifests.NewLoader()
	loader.Progress = func(done, total int) { progress.Show("files checked", done, total) }
	base, err := d.readBase(cmd, in, loader, snapshots)
	if err != nil {
		return r, err
	}
	sets, findings := loader.Load(ctx, snapshots...)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	for _, set := range sets {
		r.Sources = append(r.Sources, report.Source{Name: set.Source, Location: set.Location, Revision: set.Revision, Objects: len(set.Items)})
	}
	r.Findings = findings
	if findings.HasErrors() {
		return r, nil
	}
	nodes, err := effects.ParseNodes(d.nodes...)
	if err != nil {
		return r, fmt.Errorf("--nodes %w", err)
	}
	checked, err := in.check(base, sets, snapshots, nodes, d.live(in))
	if err != nil {
		return r, err
	}
	r.Findings = manifests.Join(findings, checked)
	if r.Findings.HasErrors() {
		return r, nil
	}
	progress.Show("comparing", 0, 0)
	if r.Plan, err = base.Plan(validation.Rules{}, sets...); err != nil {
		return r, err
	}
	r.Plan.Effects = effects.Compute(r.Plan, base, nodes)
	r.Plan.Guard(base.Inventory, d.candidates(ctx, in, base, sets), in.flags.MaxDelete)
	r.Plan.Approve(in.flags.Approve...)
	return r, nil
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
func (in dryInput) check(base *reconciler.Base, sets []*manifests.Set, snapshots []manifests.Snapshot, nodes []*corev1.Node, live bool) (manifests.Diagnostics, error) {
	off, err := check.Disable(in.flags.Ignore...)
	if err != nil {
		return nil, fmt.Errorf("--ignore: %w", err)
	}
	cluster := check.Cluster{}
	if live {
		cluster = control.ClusterOf(base, sets)
	}
	if nodes != nil {
		cluster.Nodes = nodes
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

// verdict is how the run ends.
func (d *dryRun) verdict(r report.Report) error {
	if errs, warnings := r.Findings.Count(); errs > 0 {
		return &command.ExitError{Code: exitErrors, Err: fmt.Errorf("%d errors, %d warnings: no plan", errs, warnings)}
	}
	switch {
	case len(r.Plan.Problems) > 0:
		return &command.ExitError{Code: exitErrors, Err: fmt.Errorf("%d objects cannot be applied", len(r.Plan.Problems))}
	case len(r.Plan.Holds) > 0:
		return &command.ExitError{Code: exitHeld, Err: fmt.Errorf("the plan is held: %s", r.Plan.Holds[0].Message())}
	case d.detailed && r.Plan.Pending():
		return &command.ExitError{Code: exitPending}
	}
	return nil
}

// write writes the report to stdout; of the text format the findings go to
// stderr, so that a plan can be kept without them.
func (d *dryRun) write(cmd *cobra.Command, r report.Report) error {
	out, errOut := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if d.format == report.Text {
		if err := report.Write(errOut, report.Text, report.Report{Findings: r.Findings}, report.For(errOut, os.Getenv)); err != nil {
			return err
		}
		r.Findings = nil
	}
	opts := report.For(out, os.Getenv)
	opts.Version = command.Version
	return report.Write(out, d.format, r, opts)
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
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger, Skip: func(key string) bool {
		return strings.HasPrefix(key, schema.PKIPrefix) // private keys are nobody's to print
	}})
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
