package reconciler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// loop is the state of a running reconciler; its goroutine alone touches it.
type loop struct {
	cfg     Config
	inbox   *inbox
	loader  *manifests.Loader
	metrics *metrics

	snapshots map[string]manifests.Snapshot // newest reading by source
	trying    map[string]*manifests.Set     // newest that loaded without error
	good      map[string]*manifests.Set     // last that was applied, or found in the books
	tracker   *Tracker
	inventory Inventory
	heads     map[string]Head
	stored    map[string]Head // heads as the store has them
	findings  map[string]manifests.Diagnostics
	held      map[string]held // what a guard does not let pass
	full      bool            // everything must be compared
	unsure    bool            // the checks refused something
}

func newLoop(cfg Config) *loop {
	return &loop{
		cfg: cfg, inbox: newInbox(), loader: manifests.NewLoader(), metrics: newMetrics(cfg.Registerer),
		snapshots: map[string]manifests.Snapshot{}, trying: map[string]*manifests.Set{}, good: map[string]*manifests.Set{},
		tracker: NewTracker(cfg.Validator, cfg.Mirror.Get), findings: map[string]manifests.Diagnostics{}, held: map[string]held{}, full: true,
	}
}

// readBooks takes inventory and heads from the store. What a source applied
// before is in force until it is read anew.
func (l *loop) readBooks() error {
	var err error
	l.inventory, l.heads, err = Books(l.cfg.Mirror.Raw(schema.SourcesPrefix))
	if err != nil {
		return err
	}
	l.stored = maps.Clone(l.heads)
	for _, source := range l.cfg.Sources {
		name := source.Name()
		if l.good[name] != nil {
			continue
		}
		set, err := l.inventory.set(name)
		if err != nil {
			return err
		}
		if len(set.Items) > 0 {
			l.good[name] = set
		}
	}
	return nil
}

// sync brings the registries where the sources want them. keys are the objects
// that moved since the last time.
func (l *loop) sync(ctx context.Context, keys []schema.Key) error {
	began := time.Now()
	defer func() { l.metrics.seconds.Observe(time.Since(began).Seconds()) }()
	l.moved(keys)
	changed := l.takeReadings(ctx) || l.mayHelp(keys) && l.load(ctx)
	changed = l.takeApprovals() || changed
	ours := l.ours(keys)
	if l.full {
		l.tracker.TouchAll()
	}
	if l.full || changed {
		l.tracker.Want(l.wanted()...)
	} else if len(ours) == 0 {
		return l.writeHeads(ctx)
	}
	l.tracker.Touch(ours...)
	plan, err := l.plan(ctx)
	if err != nil {
		return err
	}
	l.originate(ctx, plan)
	revision, err := Apply(ctx, l.cfg.Registries, plan)
	if waited := l.cfg.Mirror.WaitFor(ctx, revision); waited != nil {
		return waited
	}
	if err := l.rereadEntries(plan); err != nil {
		return err
	}
	if err == nil {
		l.report(plan)
	}
	var problem Problem
	if errors.As(err, &problem) {
		l.refuse(sourceOf(problem, l.tracker.Desired()), []Problem{problem})
		l.full = true
		return l.writeHeads(ctx)
	}
	if err != nil {
		return err
	}
	if err := l.restamp(ctx, ours, plan); err != nil {
		return err
	}
	l.full = false
	l.accept()
	return l.writeHeads(ctx)
}

// rereadEntries takes over what a plan wrote to the inventory: even a plan that
// failed may have been applied in part.
func (l *loop) rereadEntries(plan *Plan) error {
	var keys []schema.Key
	for _, c := range plan.Changes {
		keys = append(keys, c.Key)
		delete(l.inventory, c.Key)
		for _, source := range l.cfg.Sources {
			kv, ok := l.cfg.Mirror.RawKey(entryPath(source.Name(), c.Key))
			if !ok {
				continue
			}
			entry, err := parseEntry(kv)
			if err != nil {
				return err
			}
			l.inventory[c.Key] = Owned{Source: source.Name(), Entry: entry}
		}
	}
	l.moved(keys)
	return nil
}

// ours drops the keys that no source has to do with.
func (l *loop) ours(keys []schema.Key) []schema.Key {
	return slices.DeleteFunc(keys, func(key schema.Key) bool {
		_, desired := l.tracker.Desired()[key]
		_, owned := l.inventory[key]
		return !desired && !owned
	})
}

// inForce is, by source, what is to be applied: the newest set, or else the
// last good one.
func (l *loop) inForce() map[string]*manifests.Set {
	out := maps.Clone(l.good)
	maps.Copy(out, l.trying)
	return out
}

// wanted is what is to be in force, in the order of the sources.
func (l *loop) wanted() []*manifests.Set {
	var sets []*manifests.Set
	inForce := l.inForce()
	for _, source := range l.cfg.Sources {
		if set := inForce[source.Name()]; set != nil {
			sets = append(sets, set)
		}
	}
	return sets
}

// plan compares, and takes a source with problems, or one that a guard holds,
// back to its last good set until none is left.
func (l *loop) plan(ctx context.Context) (*Plan, error) {
	for {
		plan, err := l.tracker.Plan(l.inventory)
		if err != nil {
			return nil, err
		}
		if len(plan.Problems) == 0 {
			held, err := l.hold(ctx, plan)
			if err != nil || !held {
				return plan, err
			}
			l.tracker.Want(l.wanted()...)
			continue
		}
		refused := false
		for source, problems := range bySource(plan.Problems, l.tracker.Desired()) {
			refused = l.refuse(source, problems) || refused
		}
		if !refused {
			return l.withoutProblems(plan), nil
		}
		l.tracker.Want(l.wanted()...)
	}
}

// withoutProblems drops the changes of sources that cannot be applied even as
// they last were: somebody else made an object that stands in their way.
func (l *loop) withoutProblems(plan *Plan) *Plan {
	stuck := bySource(plan.Problems, l.tracker.Desired())
	plan.Changes = slices.DeleteFunc(plan.Changes, func(c Change) bool { return stuck[c.Source] != nil })
	return plan
}

func bySource(problems []Problem, desired Desired) map[string][]Problem {
	out := map[string][]Problem{}
	for _, p := range problems {
		source := sourceOf(p, desired)
		out[source] = append(out[source], p)
	}
	return out
}

func sourceOf(p Problem, desired Desired) string { return desired[p.Key].Source }

// report logs what a plan did.
func (l *loop) report(plan *Plan) {
	for _, c := range plan.Changes {
		l.metrics.changes.WithLabelValues(string(c.Action)).Inc()
		if c.Drift && c.Action != Adopt {
			l.cfg.Logger.Info("drift put right", "key", c.Key, "action", c.Action, "source", c.Source, "place", c.Place)
		}
	}
	if plan.Pending() {
		l.cfg.Logger.Info("applied", "created", plan.Count(Create), "changed", plan.Count(Update, Resize, Replace),
			"deleted", plan.Count(Delete), "unchanged", plan.Unchanged)
	}
}

// set rebuilds what a source last applied from the inventory.
func (inv Inventory) set(source string) (*manifests.Set, error) {
	set := &manifests.Set{Source: source}
	for key, owned := range inv {
		if owned.Source != source {
			continue
		}
		item, err := owned.item(key)
		if err != nil {
			return nil, err
		}
		set.Items = append(set.Items, item)
	}
	slices.SortFunc(set.Items, func(a, b manifests.Item) int { return a.Key.Compare(b.Key) })
	return set, nil
}
