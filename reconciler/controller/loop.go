package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// How long a key that fails waits: the first time, and at most.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Loop calls Reconcile for the keys of what changed.
type Loop struct {
	Name   string // of the controller, in logs and metrics
	Mirror *registry.Mirror
	Kinds  []*schema.Kind // whose changes are followed
	Raw    string         // prefix of keys that are no objects, followed too; "" for none
	After  int64          // revision that the mirror must have seen first: Registries.Term

	First []schema.Key // worked on at the start, whether or not there is anything of the name

	// Map names the keys that a changed key makes dirty; a changed raw key
	// comes as the Name of a Key without a resource. It is called for one key at
	// a time, and for all that is there before anything is worked on, so that an
	// index which it keeps is whole by then. Default: the key itself.
	Map func(changed schema.Key) []schema.Key

	// Reconcile makes one key as it should be: it reads the mirror, computes,
	// and writes. It may be called at any time and any number of times, for
	// different keys at once but never for the same one. The error may be
	// Later, or one that is tried again; registry.ErrFenced ends the loop.
	Reconcile func(ctx context.Context, key schema.Key) error

	Workers int      // default 1
	Metrics *Metrics // nil: not counted
	Logger  *slog.Logger
}

// Later is returned by a Reconcile that has nothing more to do now but wants
// to be called again.
type Later struct{ After time.Duration }

func (l Later) Error() string { return "again after " + l.After.String() }

// Run works until ctx ends (nil) or the leader's term does
// (registry.ErrFenced). It does nothing before the mirror has everything.
func (l *Loop) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.Mirror.Synced():
	}
	if err := l.Mirror.WaitFor(ctx, l.After); err != nil {
		return nil
	}
	r := &run{Loop: l, queue: newQueue(), failures: map[schema.Key]int{}}
	return r.run(ctx)
}

// run is a Loop that runs.
type run struct {
	*Loop
	queue *queue

	mapping sync.Mutex // held while Map is called

	mu       sync.Mutex
	failures map[schema.Key]int // in a row
}

func (r *run) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer r.queue.close()
	r.queue.add(r.First...)
	var wg sync.WaitGroup
	for _, changes := range r.subscribe() {
		defer changes.Close()
		r.take(changes.Take())
		wg.Go(func() { r.feed(ctx, changes) })
	}
	for range max(1, r.Workers) {
		wg.Go(func() { r.work(ctx, end) })
	}
	wg.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, registry.ErrFenced) {
		return cause
	}
	return nil
}

// subscribe returns subscriptions to all that is followed.
func (r *run) subscribe() []*registry.Subscription {
	var out []*registry.Subscription
	if len(r.Kinds) > 0 {
		out = append(out, r.Mirror.Subscribe(r.Kinds...))
	}
	if r.Raw != "" {
		out = append(out, r.Mirror.SubscribeRaw(r.Raw))
	}
	return out
}

func (r *run) feed(ctx context.Context, changes *registry.Subscription) {
	for ctx.Err() == nil {
		r.take(changes.Next(ctx))
	}
}

// take adds what some changes make dirty, once all of them are mapped.
func (r *run) take(changed []schema.Key) {
	if r.Map == nil {
		r.queue.add(changed...)
		return
	}
	var dirty []schema.Key
	r.mapping.Lock()
	defer r.mapping.Unlock()
	for _, key := range changed {
		dirty = append(dirty, r.Map(key)...)
	}
	r.queue.add(dirty...)
}

func (r *run) work(ctx context.Context, end context.CancelCauseFunc) {
	for {
		key, ok := r.queue.next(ctx)
		if !ok {
			return
		}
		revision := r.Mirror.Revision()
		began := time.Now()
		err := r.Reconcile(ctx, key)
		r.Metrics.observe(r.Name, time.Since(began), err)
		if ctx.Err() == nil {
			r.settle(ctx, key, revision, err)
		}
		r.queue.done(key)
		if errors.Is(err, registry.ErrFenced) {
			end(fmt.Errorf("%s %s: %w", r.Name, key, err))
			return
		}
	}
}

// settle says when the key is worked on again.
func (r *run) settle(ctx context.Context, key schema.Key, revision int64, err error) {
	var later Later
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		err = nil // there is nothing to make any more
	}
	if err == nil || errors.As(err, &later) {
		r.succeeded(key)
		if err != nil {
			r.queue.addAfter(key, later.After)
		}
		return
	}
	wait := r.failed(key)
	if !IsStale(err) || wait > time.Second {
		r.Logger.Warn("reconcile failed", "controller", r.Name, "key", key, "retry", wait, "error", err)
		r.queue.addAfter(key, wait)
		return
	}
	// The store knows more than the mirror did: try again when it has moved.
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_ = r.Mirror.WaitFor(bounded, revision+1)
	r.queue.add(key)
}

// IsStale reports whether an error comes from deciding on something old: what
// was read has changed, gone or come to be since.
func IsStale(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || errors.Is(err, registry.ErrConflict)
}

func (r *run) succeeded(key schema.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failures, key)
}

func (r *run) failed(key schema.Key) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.failures[key]
	r.failures[key] = n + 1
	return min(firstRetry<<min(n, 20), lastRetry)
}
