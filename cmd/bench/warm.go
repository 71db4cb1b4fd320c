package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/evenkeel/evenkeel/cmd/internal/control"
	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// warm times what a reconciler does that has applied all manifests, when it is
// woken and one file has changed, or nothing.
func (p plans) warm(ctx context.Context, runs int) ([]Result, error) {
	version := 0
	change := func() error {
		version++
		if err := mixOf(4, version).write(p.files); err != nil {
			return err
		}
		return p.git(ctx, "commit", "-q", "-a", "-m", "next")
	}
	var out []Result
	for _, of := range []struct{ place, what string }{{p.repo, "a commit"}, {p.files, "a directory"}} {
		times, err := timeWarm(ctx, filepath.Join(p.work, "etcd-"+filepath.Base(of.place)), of.place, change, runs)
		if err != nil {
			return nil, err
		}
		out = append(out,
			summary("warm plan after "+of.what+" changed one file, with its checks", "s", 0.05, times.changed),
			summary("warm look at "+of.what+" that is unchanged, no etcd write", "s", 0.02, times.unchanged),
			summary("no-op reconcile of 10,000 objects of "+of.what+", all compared, no etcd write", "s", 0.1, times.compared))
	}
	return out, nil
}

// warmTimes are in seconds.
type warmTimes struct{ changed, unchanged, compared []float64 }

// timeWarm applies all manifests to a real etcd of its own first.
func timeWarm(ctx context.Context, etcdDir, place string, change func() error, runs int) (warmTimes, error) {
	var out warmTimes
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := embedded.Start(ctx, embedded.Config{Dir: etcdDir, NoSync: true, Logger: logger})
	if err != nil {
		return out, err
	}
	defer server.Close()
	store := etcd.NewStore(server.Client())
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Logger: logger})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	defer func() { cancel(); <-done }()
	sources, err := (&control.Flags{}).Sources([]string{place}, etcdDir, logger)
	if err != nil {
		return out, err
	}
	w := &warmed{
		store: store, mirror: mirror, source: sources[0], loader: manifests.NewLoader(),
		tracker: reconciler.NewTracker(validation.Rules{}, mirror.Get), checks: control.NewChecks(mirror, nil),
	}
	if err := w.start(ctx); err != nil {
		return out, err
	}
	for range runs {
		if err := w.round(ctx, change, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// warmed is what a running reconciler has.
type warmed struct {
	store   registry.Store
	mirror  *registry.Mirror
	moved   *registry.Subscription
	source  manifests.Source
	loader  *manifests.Loader
	tracker *reconciler.Tracker
	checks  *control.Checks
	books   reconciler.Inventory
	tree    string // in force
}

// look reads the source, and reports nil where it is what is in force.
func (w *warmed) look(ctx context.Context) ([]*manifests.Set, error) {
	snapshot, err := w.source.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	sets, found := w.loader.Load(ctx, snapshot)
	if err := found.Err(); err != nil || sets[0].Tree == w.tree {
		return nil, err
	}
	w.tell(w.moved.Take())
	return sets, w.checks.Check(sets, w.books).Err()
}

// tell passes on what moved, as the loop does.
func (w *warmed) tell(keys []schema.Key) {
	w.checks.Moved(keys, w.books)
	w.tracker.Touch(keys...)
}

// plan compares what may have moved, and asks the guards.
func (w *warmed) plan(ctx context.Context, sets []*manifests.Set) (*reconciler.Plan, error) {
	w.tracker.Want(sets...)
	plan, err := w.tracker.Plan(w.books)
	if err != nil {
		return nil, err
	}
	candidate := reconciler.CandidateOf(ctx, w.source, sets[0], "")
	plan.Guard(w.books, map[string]reconciler.Candidate{w.source.Name(): candidate}, reconciler.MaxDelete{})
	return plan, nil
}

// start applies all there is.
func (w *warmed) start(ctx context.Context) error {
	select {
	case <-w.mirror.Synced():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.moved = w.mirror.Subscribe(schema.Kinds...)
	sets, err := w.look(ctx)
	if err != nil {
		return err
	}
	plan, err := w.plan(ctx, sets)
	if err != nil {
		return err
	}
	if err := w.apply(ctx, plan, sets); err != nil {
		return err
	}
	_, err = w.plan(ctx, sets) // fills what is known to be unchanged
	return err
}

func (w *warmed) apply(ctx context.Context, plan *reconciler.Plan, sets []*manifests.Set) error {
	regs := registry.New(w.store, registry.Config{Validator: validation.Rules{}, ServiceCIDR: registry.DefaultServiceCIDR})
	revision, err := reconciler.Apply(ctx, regs, plan)
	if err != nil {
		return err
	}
	if err := w.mirror.WaitFor(ctx, revision); err != nil {
		return err
	}
	w.tree = sets[0].Tree
	if w.books, _, err = reconciler.Books(w.mirror.Raw(schema.SourcesPrefix)); err != nil {
		return err
	}
	var keys []schema.Key
	for _, c := range plan.Changes {
		keys = append(keys, c.Key)
	}
	w.tell(keys)
	return nil
}

// round changes one file, and then nothing. What must not write to etcd is an
// error if it does.
func (w *warmed) round(ctx context.Context, change func() error, times *warmTimes) error {
	if err := change(); err != nil {
		return err
	}
	runtime.GC() // of what only the measuring leaves behind
	began := time.Now()
	sets, err := w.look(ctx)
	if err != nil {
		return err
	}
	plan, err := w.plan(ctx, sets)
	if err != nil {
		return err
	}
	times.changed = append(times.changed, seconds(began))
	if n := plan.Count(reconciler.Update); n != 1 || len(plan.Changes) != 1 {
		return fmt.Errorf("one file changed, and %d objects of %d changes", n, len(plan.Changes))
	}
	if err := w.apply(ctx, plan, sets); err != nil {
		return err
	}
	before, err := w.revision(ctx)
	if err != nil {
		return err
	}
	began = time.Now()
	again, err := w.look(ctx)
	times.unchanged = append(times.unchanged, seconds(began))
	if err != nil {
		return err
	}
	if again != nil {
		return errors.New("nothing changed, and something was to plan")
	}
	began = time.Now()
	if _, err = w.look(ctx); err != nil {
		return err
	}
	w.tracker.TouchAll()
	plan, err = w.plan(ctx, sets)
	times.compared = append(times.compared, seconds(began))
	if err != nil {
		return err
	}
	after, err := w.revision(ctx)
	if err == nil && (!plan.Empty() || after != before) {
		err = fmt.Errorf("nothing changed: %d changes, etcd moved by %d", len(plan.Changes), after-before)
	}
	return err
}

// revision is where etcd is.
func (w *warmed) revision(ctx context.Context) (int64, error) {
	_, at, err := w.store.List(ctx, schema.SourcesPrefix+"none", 0)
	return at, err
}
