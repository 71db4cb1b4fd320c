package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says where a Hub gets what it serves.
type Config struct {
	Registries *registry.Registries
	// Mirror holds the kinds that are watched without a further watch of the
	// store; it has one prefix. Nil: every kind is watched in the store, for as
	// long as somebody watches it.
	Mirror *registry.Mirror
	// Unmirrored are kinds that the mirror skips.
	Unmirrored []*schema.Kind
	Logger     *slog.Logger
}

// Hub serves watches, and lists from memory. It serves nothing before Run, and
// after.
type Hub struct {
	cfg   Config
	ready chan struct{}  // closed when the histories follow the mirror
	wg    sync.WaitGroup // watches, and the watches of the store that feed them

	mu      sync.Mutex
	serving bool
	main    map[string]*history // by resource: fed by the mirror
	late    map[string][]*late  // by resource: fed by the store, for old revisions
}

// New returns a hub; Run makes it serve.
func New(cfg Config) *Hub {
	return &Hub{cfg: cfg, ready: make(chan struct{}), main: map[string]*history{}, late: map[string][]*late{}}
}

// Run feeds the histories until ctx ends, and then ends all watches. It returns
// when they are gone.
func (h *Hub) Run(ctx context.Context) error {
	if h.cfg.Mirror != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-h.cfg.Mirror.Synced():
		}
	}
	stop := h.begin()
	defer stop()
	close(h.ready)
	<-ctx.Done()
	h.finish()
	h.wg.Wait()
	return nil
}

// Ready is closed when the hub serves.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// begin starts the history of every mirrored kind at the revision from which on
// take hears of everything; it waits here until there is something to add to.
func (h *Hub) begin() (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = true
	if h.cfg.Mirror == nil {
		return func() {}
	}
	revision, stop := h.cfg.Mirror.Observe(h.take)
	for _, kind := range schema.Kinds {
		if h.mirrored(kind) {
			h.main[kind.Resource] = newHistory(revision)
		}
	}
	return stop
}

func (h *Hub) mirrored(kind *schema.Kind) bool {
	return h.cfg.Mirror != nil && !slices.Contains(h.cfg.Unmirrored, kind)
}

// take takes in what the mirror took in.
func (h *Hub) take(c registry.Changes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Relisted {
		h.restartLocked(c.Revision)
		return
	}
	byKind := map[string][]*event{}
	for _, o := range c.Objects {
		if o.Before == o.After || isSame(o) {
			continue
		}
		byKind[o.Key.Resource] = append(byKind[o.Key.Resource], newEvent(o.Before, o.After, o.Revision))
	}
	for resource, hist := range h.main {
		hist.add(byKind[resource], c.Revision)
	}
}

// isSame reports whether an object is what it was: a node whose lease was
// renewed under a new name.
func isSame(o registry.ObjectChange) bool {
	return o.Before != nil && o.After != nil && o.Before.GetResourceVersion() == o.After.GetResourceVersion() && sameStatus(o.Before, o.After)
}

// restartLocked begins all histories anew: what happened meanwhile is not known
// one by one, so that every watcher has to come back.
func (h *Hub) restartLocked(revision int64) {
	for resource, hist := range h.main {
		hist.end(errDone)
		h.main[resource] = newHistory(revision)
	}
}

func (h *Hub) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving = false
	for _, hist := range h.main {
		hist.end(errDone)
	}
	for _, ls := range h.late {
		for _, l := range ls {
			l.stop()
		}
	}
}

// Request is a watch that a client asks for.
type Request struct {
	Kind      *schema.Kind
	Filter    Filter
	Bookmarks bool
	// From is the revision after which events are wanted; 0 for the objects as
	// they are, and then what happens.
	From int64
	// NotBefore is, for From 0, the revision that the objects have to be at
	// least of. Latest asks for that of the store.
	NotBefore int64
	Latest    bool
	// Silent leaves out the objects as they are.
	Silent bool
	// EndInitial asks for a bookmark after the objects as they are.
	EndInitial bool
}

// Watch starts a watch, which ends with ctx at the latest.
func (h *Hub) Watch(ctx context.Context, r Request) (watch.Interface, error) {
	select {
	case <-h.ready:
	case <-ctx.Done():
		return nil, failure.Of(ctx.Err(), schema.Key{Resource: r.Kind.Resource})
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{kind: r.Kind, filter: r.Filter, bookmarks: r.Bookmarks, out: make(chan watch.Event, 10), stop: cancel, revision: r.From}
	initial, err := h.initial(ctx, r, w)
	if err != nil {
		cancel()
		return nil, failure.Of(err, schema.Key{Resource: r.Kind.Resource})
	}
	hist, done, err := h.historyFor(r.Kind, w.revision)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer done()
		defer cancel()
		w.run(ctx, hist, initial, r.EndInitial)
	}()
	return w, nil
}

// initial returns the objects that a watch begins with, and sets the revision
// from which it goes on.
func (h *Hub) initial(ctx context.Context, r Request, w *watcher) ([]schema.Object, error) {
	if r.From != 0 {
		return nil, nil
	}
	objs, revision, err := h.Objects(ctx, r.Kind, r.Filter.Namespace, r.NotBefore, r.Latest)
	w.revision = revision
	if r.Silent {
		objs = nil
	}
	return objs, err
}

// historyFor returns a history that has everything after a revision, and what
// to call when it is no longer needed.
func (h *Hub) historyFor(kind *schema.Kind, from int64) (*history, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.serving {
		return nil, nil, apierrors.NewServiceUnavailable("the server is shutting down")
	}
	if hist := h.main[kind.Resource]; hist != nil && hist.covers(from) {
		h.wg.Add(1)
		return hist, h.wg.Done, nil
	}
	l := h.lateLocked(kind, from)
	l.users++
	h.wg.Add(1)
	return l.history, func() {
		h.leave(kind, l)
		h.wg.Done()
	}, nil
}

// Objects returns the objects of a kind in a namespace, or in all for "", as of
// a revision that is at least notBefore, or the store's own when latest is set.
// They are shared.
func (h *Hub) Objects(ctx context.Context, kind *schema.Kind, namespace string, notBefore int64, latest bool) ([]schema.Object, int64, error) {
	if !h.mirrored(kind) || !isClosed(h.ready) {
		objs, revision, err := h.cfg.Registries.List(ctx, kind, namespace)
		if err == nil && revision < notBefore {
			err = failure.FutureRevision(notBefore, revision)
		}
		return objs, revision, err
	}
	if latest {
		var err error
		if notBefore, err = h.storeRevision(ctx); err != nil {
			return nil, 0, err
		}
	}
	if err := h.waitFor(ctx, notBefore); err != nil {
		if latest {
			return h.cfg.Registries.List(ctx, kind, namespace)
		}
		return nil, 0, err
	}
	objs, revision := h.cfg.Mirror.ListAt(kind, namespace)
	return objs, revision, nil
}

// Object returns an object from memory if that is at least of a revision; nil
// if it is not there, false if the store has to be asked.
func (h *Hub) Object(kind *schema.Kind, key schema.Key, notBefore int64) (schema.Object, bool) {
	if !h.mirrored(kind) || !isClosed(h.ready) || h.cfg.Mirror.Revision() < notBefore {
		return nil, false
	}
	return h.cfg.Mirror.Get(key), true
}

// patience is how long a read waits for the mirror to catch up with a revision.
const patience = 3 * time.Second

func (h *Hub) waitFor(ctx context.Context, revision int64) error {
	if h.cfg.Mirror.Revision() >= revision {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := h.cfg.Mirror.WaitFor(short, revision)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return failure.FutureRevision(revision, h.cfg.Mirror.Revision())
	}
	return err
}

// storeRevision asks the store where it is.
func (h *Hub) storeRevision(ctx context.Context) (int64, error) {
	_, revision, _, err := h.cfg.Registries.Store().Page(ctx, registry.Range{Prefix: schema.Root + "~", Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("read the store's revision: %w", err)
	}
	return revision, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ParseRevision reads a resourceVersion; "" is 0.
func ParseRevision(rv string) (int64, error) {
	if rv == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(rv, 10, 63)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q: %v", rv, err))
	}
	return int64(n), nil
}
