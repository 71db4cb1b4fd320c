// Package memory is a registry.Store in memory, for tests and for planning
// against nothing. It fails the way etcd fails: conflicts, compacted
// revisions, leases that run out. It runs in a testing/synctest bubble.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// Store implements registry.Store. The zero value is not usable; see New.
type Store struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	keys      map[string]registry.KV
	history   []registry.Change // ordered by Mod, all later than compacted
	leases    map[registry.LeaseID]*lease
	nextLease registry.LeaseID
	moved     chan struct{} // closed and replaced at each new revision
}

type lease struct {
	ttl   time.Duration
	timer *time.Timer
	ends  time.Time
	keys  map[string]bool
}

// New returns an empty store at revision 1.
func New() *Store {
	return &Store{
		revision: 1,
		keys:     map[string]registry.KV{},
		leases:   map[registry.LeaseID]*lease{},
		moved:    make(chan struct{}),
	}
}

// Get implements registry.Store.
func (s *Store) Get(ctx context.Context, key string) (registry.KV, error) {
	if err := ctx.Err(); err != nil {
		return registry.KV{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kv, ok := s.keys[key]
	if !ok {
		return registry.KV{}, fmt.Errorf("get %s: %w", key, registry.ErrNotFound)
	}
	return kv, nil
}

// Commit implements registry.Store.
func (s *Store) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := registry.CheckTxn(txn); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range txn.Guards {
		current := s.keys[g.Key].Mod
		if !g.Holds(current) {
			return 0, &registry.ConflictError{Key: g.Key, Current: current}
		}
	}
	for _, op := range txn.Ops {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return 0, fmt.Errorf("put %s: %w", op.Key, registry.ErrLeaseGone)
		}
	}
	s.writeLocked(txn.Ops)
	return s.revision, nil
}

// writeLocked applies operations at one new revision; none, if they change
// nothing.
func (s *Store) writeLocked(ops []registry.Op) {
	next := s.revision + 1
	wrote := false
	for _, op := range ops {
		old, exists := s.keys[op.Key]
		if op.Delete && !exists {
			continue
		}
		wrote = true
		if l := s.leases[old.Lease]; l != nil {
			delete(l.keys, op.Key)
		}
		if op.Delete {
			delete(s.keys, op.Key)
			s.history = append(s.history, registry.Change{KV: registry.KV{Key: op.Key, Mod: next}, Deleted: true})
			continue
		}
		kv := registry.KV{Key: op.Key, Value: slices.Clone(op.Value), Create: next, Mod: next, Lease: op.Lease}
		if exists {
			kv.Create = old.Create
		}
		if l := s.leases[op.Lease]; l != nil {
			l.keys[op.Key] = true
		}
		s.keys[op.Key] = kv
		s.history = append(s.history, registry.Change{KV: kv})
	}
	if wrote {
		s.revision = next
		close(s.moved)
		s.moved = make(chan struct{})
	}
}

// Watch implements registry.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from int64, emit func(registry.Batch) error) error {
	for {
		batch, moved, err := s.since(prefix, from)
		if err != nil {
			return err
		}
		if len(batch.Changes) > 0 {
			if err := emit(batch); err != nil {
				return err
			}
		}
		from = max(from, batch.Revision+1)
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

func (s *Store) since(prefix string, from int64) (registry.Batch, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from <= s.compacted {
		return registry.Batch{}, nil, fmt.Errorf("watch %s from %d: %w", prefix, from, registry.ErrCompacted)
	}
	batch := registry.Batch{Revision: s.revision}
	first, _ := slices.BinarySearchFunc(s.history, from, func(c registry.Change, rev int64) int { return int(c.Mod - rev) })
	for _, c := range s.history[first:] {
		if strings.HasPrefix(c.Key, prefix) {
			batch.Changes = append(batch.Changes, c)
		}
	}
	return batch, s.moved, nil
}

// Compact forgets what came before a revision, as etcd's compaction does:
// lists and watches from before it fail with registry.ErrCompacted.
func (s *Store) Compact(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = min(max(s.compacted, revision), s.revision)
	latest := map[string]int{}
	for i, c := range s.history {
		if c.Mod <= s.compacted {
			latest[c.Key] = i
		}
	}
	var kept []registry.Change
	for i, c := range s.history {
		if c.Mod > s.compacted || (latest[c.Key] == i && !c.Deleted) {
			kept = append(kept, c)
		}
	}
	s.history = kept
}

// Grant implements registry.Store.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (registry.LeaseID, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextLease++
	id := s.nextLease
	l := &lease{ttl: max(ttl, time.Second), keys: map[string]bool{}}
	l.ends = time.Now().Add(l.ttl)
	l.timer = time.AfterFunc(l.ttl, func() { s.expire(id) })
	s.leases[id] = l
	return id, nil
}

// KeepAlive implements registry.Store.
func (s *Store) KeepAlive(ctx context.Context, id registry.LeaseID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return registry.ErrLeaseGone
	}
	l.timer.Reset(l.ttl)
	l.ends = time.Now().Add(l.ttl)
	return nil
}

// TimeLeft implements registry.Store.
func (s *Store) TimeLeft(ctx context.Context, id registry.LeaseID) (left, ttl time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return 0, 0, registry.ErrLeaseGone
	}
	return time.Until(l.ends), l.ttl, nil
}

// Revoke implements registry.Store.
func (s *Store) Revoke(_ context.Context, id registry.LeaseID) error {
	s.expire(id)
	return nil
}

func (s *Store) expire(id registry.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return
	}
	l.timer.Stop()
	delete(s.leases, id)
	var ops []registry.Op
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		ops = append(ops, registry.Delete(key))
	}
	s.writeLocked(ops)
}

// Dump returns all keys and values, one "key: N bytes @revision" a line, for
// the message of a failed test.
func (s *Store) Dump() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		kv := s.keys[key]
		fmt.Fprintf(&b, "%s: %d bytes @%d\n", key, len(kv.Value), kv.Mod)
	}
	return b.String()
}
