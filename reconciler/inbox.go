package reconciler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
)

// snapshotTimeout bounds one reading of a source.
const snapshotTimeout = 5 * time.Minute

// inbox holds the newest reading of each source until the loop takes it.
type inbox struct {
	mu    sync.Mutex
	fresh map[string]reading
	ready chan struct{}
}

// reading is what came of reading a source.
type reading struct {
	snapshot manifests.Snapshot
	err      error
}

func newInbox() *inbox {
	return &inbox{fresh: map[string]reading{}, ready: make(chan struct{}, 1)}
}

func (i *inbox) put(source string, r reading) {
	i.mu.Lock()
	i.fresh[source] = r
	i.mu.Unlock()
	i.wake()
}

// wake makes the loop look, even when nothing was read.
func (i *inbox) wake() {
	select {
	case i.ready <- struct{}{}:
	default:
	}
}

func (i *inbox) take() map[string]reading {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := i.fresh
	i.fresh = map[string]reading{}
	return out
}

// follow reads a source at first and whenever it says that it changed, and
// again for as long as it cannot be read. It blocks until ctx ends.
func (i *inbox) follow(ctx context.Context, source manifests.Source, logger *slog.Logger) error {
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	var watching sync.WaitGroup
	watching.Go(func() { i.watch(ctx, source, changed, logger) })
	defer watching.Wait()
	var retry <-chan time.Time
	for delay := retryAfter; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry:
		}
		attempt, cancel := context.WithTimeout(ctx, snapshotTimeout)
		snapshot, err := source.Snapshot(attempt)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		i.put(source.Name(), reading{snapshot: snapshot, err: err})
		retry = nil
		if err == nil {
			delay = retryAfter
			continue
		}
		logger.Warn("source cannot be read; what it declared stays in force", "source", source.Name(), "error", err)
		retry = time.After(delay)
		delay = min(2*delay, time.Minute)
	}
}

// watch asks a source to watch itself until ctx ends.
func (i *inbox) watch(ctx context.Context, source manifests.Source, changed chan<- struct{}, logger *slog.Logger) {
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		if err := source.Watch(ctx, notify); err != nil {
			logger.Warn("source cannot be watched, will be tried again", "source", source.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
			notify()
		}
	}
}
