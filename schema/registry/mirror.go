package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// MirrorConfig says what a Mirror holds.
type MirrorConfig struct {
	Store    Store
	Prefixes []string              // default: all under schema.Root, in one watch
	Skip     func(key string) bool // keys that are not held; default none
	Logger   *slog.Logger          // default: none
}

// Mirror is the store in memory: all objects under its prefixes, joined and
// decoded once, with indexes, kept up by one watch a prefix. Objects read from
// it are shared and must not be changed. Reading is cheap and safe at once.
//
// Whoever decides on a mirror and then writes calls WaitFor with the revision
// of the write before deciding again.
type Mirror struct {
	cfg MirrorConfig

	mu        sync.Mutex
	state     *joiner
	raw       rawKeys                    // keys that are no part of an object
	paths     map[string]map[string]bool // by prefix: all keys held, for a relist
	at        map[string]int64           // by prefix: revision seen; 0 before the first list
	moved     chan struct{}              // closed and replaced when at changes
	subs      map[*Subscription]bool
	observers []*observer
	byNode    index // pods by node name
	byOwner   index // pods by ownerOf
	byService index // endpoint slices by serviceOf
	synced    chan struct{}
}

// NewMirror returns an empty mirror; Run fills it.
func NewMirror(cfg MirrorConfig) *Mirror {
	if len(cfg.Prefixes) == 0 {
		cfg.Prefixes = []string{schema.Root}
	}
	if cfg.Skip == nil {
		cfg.Skip = func(string) bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	state, _ := newJoiner(nil)
	return &Mirror{
		cfg: cfg, state: state, raw: rawKeys{}, paths: map[string]map[string]bool{}, at: map[string]int64{},
		moved: make(chan struct{}), subs: map[*Subscription]bool{}, byNode: index{}, byOwner: index{}, byService: index{}, synced: make(chan struct{}),
	}
}

// Run keeps the mirror up until ctx ends. With the store away it keeps what it
// has and tries again.
func (m *Mirror) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, prefix := range m.cfg.Prefixes {
		wg.Go(func() { m.follow(ctx, prefix) })
	}
	wg.Wait()
	return nil
}

// follow lists a prefix and watches it from there; after a loss it watches on
// from the last revision, after a compaction it lists again.
func (m *Mirror) follow(ctx context.Context, prefix string) {
	backoff := newBackoff()
	for from := int64(0); ctx.Err() == nil; {
		err := m.followFrom(ctx, prefix, from)
		from = m.revision(prefix)
		switch {
		case errors.Is(err, ErrCompacted):
			from = 0
			continue
		case err == nil:
			backoff = newBackoff()
			continue
		}
		m.cfg.Logger.Warn("mirror lost the store", "prefix", prefix, "revision", from, "error", err)
		backoff.wait(ctx)
	}
}

func (m *Mirror) followFrom(ctx context.Context, prefix string, from int64) error {
	if from == 0 {
		kvs, revision, err := m.cfg.Store.List(ctx, prefix, 0)
		if err != nil {
			return err
		}
		if err := m.replace(prefix, kvs, revision); err != nil {
			return err
		}
		from = revision
	}
	return m.cfg.Store.Watch(ctx, prefix, from+1, func(b Batch) error { return m.apply(prefix, b) })
}

func (m *Mirror) revision(prefix string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[prefix]
}

// replace takes a whole list: keys that it lacks are deleted.
func (m *Mirror) replace(prefix string, kvs []KV, revision int64) error {
	batch := Batch{Revision: revision, Changes: make([]Change, 0, len(kvs))}
	here := make(map[string]bool, len(kvs))
	for _, kv := range kvs {
		here[kv.Key] = true
		batch.Changes = append(batch.Changes, Change{KV: kv})
	}
	m.mu.Lock()
	for key := range m.paths[prefix] {
		if !here[key] {
			batch.Changes = append(batch.Changes, Change{KV: KV{Key: key, Mod: revision}, Deleted: true})
		}
	}
	m.mu.Unlock()
	return m.take(prefix, batch, true)
}

func (m *Mirror) apply(prefix string, b Batch) error { return m.take(prefix, b, false) }

// take takes in a batch of changes, or a whole list.
func (m *Mirror) take(prefix string, b Batch, listed bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := Changes{Revision: b.Revision, Relisted: listed}
	held := m.paths[prefix]
	if held == nil {
		held = map[string]bool{}
		m.paths[prefix] = held
	}
	for _, c := range b.Changes {
		if m.cfg.Skip(c.Key) {
			continue
		}
		setOrDelete(held, c.Key, true, !c.Deleted)
		change, changed := m.applyLocked(c)
		if changed && !listed && len(m.observers) > 0 {
			seen.Objects = append(seen.Objects, change)
		}
	}
	m.at[prefix] = b.Revision
	m.tellLocked(seen)
	close(m.moved)
	m.moved = make(chan struct{})
	if len(m.at) == len(m.cfg.Prefixes) && !isClosed(m.synced) {
		close(m.synced)
	}
	for sub := range m.subs {
		sub.wake()
	}
	return nil
}

// applyLocked takes in one change. A value that cannot be read is logged and
// passed over: one broken key must not stop the rest. It returns what became
// of an object, if one changed.
func (m *Mirror) applyLocked(c Change) (ObjectChange, bool) {
	key, isObject := objectKey(c.Key)
	if !isObject {
		m.raw.set(c)
		m.markLocked(schema.Key{Name: c.Key})
		return ObjectChange{}, false
	}
	before := m.state.objects[key.Resource][key]
	if _, err := m.state.apply(c); err != nil {
		m.cfg.Logger.Error("unreadable value in the store", "key", c.Key, "error", err)
		return ObjectChange{}, false
	}
	after := m.state.objects[key.Resource][key]
	m.byNode.move(key, nodeOf(before), nodeOf(after))
	m.byOwner.move(key, ownerOf(before), ownerOf(after))
	m.byService.move(key, serviceOf(before), serviceOf(after))
	m.markLocked(key)
	return ObjectChange{Key: key, Before: before, After: after, Revision: c.Mod}, before != nil || after != nil
}

func (m *Mirror) markLocked(key schema.Key) {
	for sub := range m.subs {
		sub.mark(key)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Synced is closed after the first complete list of every prefix. Nothing may
// be pruned, deleted or bound before.
func (m *Mirror) Synced() <-chan struct{} { return m.synced }

// Revision is the revision up to which the mirror has seen everything.
func (m *Mirror) Revision() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revisionLocked()
}

func (m *Mirror) revisionLocked() int64 {
	if len(m.at) < len(m.cfg.Prefixes) {
		return 0
	}
	return slices.Min(slices.Collect(maps.Values(m.at)))
}

// WaitFor blocks until the mirror has seen a revision, which must be one at
// which a key under each of its prefixes changed: that of one's own write.
func (m *Mirror) WaitFor(ctx context.Context, revision int64) error {
	for {
		m.mu.Lock()
		at, moved := m.revisionLocked(), m.moved
		m.mu.Unlock()
		if at >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d, at %d: %w", revision, at, ctx.Err())
		case <-moved:
		}
	}
}

// Get returns an object, or nil.
func (m *Mirror) Get(key schema.Key) schema.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.objects[key.Resource][key]
}

// List returns the objects of a kind in a namespace, or in all for "", sorted.
func (m *Mirror) List(kind *schema.Kind, namespace string) []schema.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.list(kind, namespace)
}

// Count returns how many objects of a kind there are.
func (m *Mirror) Count(kind *schema.Kind) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.state.objects[kind.Resource])
}

// ListOf is Mirror.List with the Go type of the kind.
func ListOf[T schema.Object](m *Mirror, kind *schema.Kind, namespace string) []T {
	objs := m.List(kind, namespace)
	out := make([]T, 0, len(objs))
	for _, obj := range objs {
		out = append(out, obj.(T))
	}
	return out
}

// GetOf is Mirror.Get with the Go type of the kind.
func GetOf[T schema.Object](m *Mirror, kind *schema.Kind, namespace, name string) (T, bool) {
	obj, ok := m.Get(kind.Key(namespace, name)).(T)
	return obj, ok
}

// backoff waits between tries at a store that does not answer.
type backoff struct{ next time.Duration }

func newBackoff() backoff { return backoff{next: 100 * time.Millisecond} }

func (b *backoff) wait(ctx context.Context) {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	b.next = min(2*b.next, 5*time.Second)
}
