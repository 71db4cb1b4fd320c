package checkpoint

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// Run brings what is noted to the disk, and sends what an earlier process could
// not send, until ctx ends; then what is left to sync is synced.
func (s *Store) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.keepSynced(ctx); return nil })
	g.Go(func() error { s.sendLeft(ctx); return nil })
	return g.Wait()
}

// syncAfter is how long what is noted may be lost to a power cut: many notes
// are synced at once.
const syncAfter = time.Second

func (s *Store) keepSynced(ctx context.Context) {
	defer s.sync()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.noted:
		}
		if !sleep(ctx, syncAfter) {
			return
		}
		s.sync()
	}
}

func (s *Store) sync() {
	s.mu.Lock()
	written := s.written
	s.written = map[folder]map[string]bool{}
	s.mu.Unlock()
	for f, keys := range written {
		if err := f.sync(slices.Collect(maps.Keys(keys))); err != nil {
			s.cfg.Logger.Warn("checkpoint not synced", "error", err)
		}
	}
}

// sendLeft sends the statuses that an earlier process left, unless this one
// has said something newer meanwhile.
func (s *Store) sendLeft(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.online:
	}
	for ctx.Err() == nil && !s.sendOnce(ctx) {
		sleep(ctx, probeEvery)
	}
}

func (s *Store) sendOnce(ctx context.Context) (done bool) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	left := maps.Clone(s.left)
	s.mu.Unlock()
	for key, value := range left {
		txn := registry.Txn{Ops: []registry.Op{registry.Put(key, value)}}
		if binding := s.cfg.BindingOf(key); binding != "" {
			txn.Guards = []registry.Guard{{Key: binding, Mod: registry.Present}}
		}
		_, err := s.Store.Commit(ctx, txn)
		if err != nil && !errors.Is(err, registry.ErrConflict) {
			s.cfg.Logger.Warn("earlier pod status not sent, will be tried again", "key", key, "error", err)
			return false
		}
		s.supersede([]string{key}, true)
	}
	return true
}

// sleep reports whether it was not cut short by ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
