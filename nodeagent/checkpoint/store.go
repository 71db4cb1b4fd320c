package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what is kept, and where.
type Config struct {
	Store    registry.Store
	Dir      string // of the checkpoint alone; made if missing, readable by its owner only
	Bindings string // prefix of the keys that the node reads
	Mark     string // key without which a list of the bindings is no authority: it is not noted; "" for none
	Statuses string // prefix of the keys that the node writes
	// StatusOf names the status that belongs to a binding, "" if none does:
	// once the binding is gone, so is the status.
	StatusOf func(bindingKey string) string
	// BindingOf is the other way: the binding without which a status is not
	// to be written.
	BindingOf func(statusKey string) string
	Logger    *slog.Logger
}

// Store is the store of a node agent with a memory on disk. While the store
// beneath answers, it is that store, and notes what it sees. Until it answers
// for the first time, List tells of the bindings and statuses noted earlier,
// and Watch waits. What cannot be noted, because the disk is full, is logged
// and does no harm to the rest.
type Store struct {
	registry.Store
	cfg      Config
	bindings folder
	said     folder // statuses
	unsent   folder // those of them that the store has not taken yet

	online chan struct{} // closed when the store has listed the bindings in this process
	once   sync.Once
	noted  chan struct{}

	sending sync.RWMutex // held for writing while left is sent
	mu      sync.Mutex
	written map[folder]map[string]bool // keys not yet synced
	left    map[string][]byte          // statuses that an earlier process could not send
}

// answerWithin is how long the store has to answer the first list before the
// checkpoint does in its place.
const answerWithin = 2 * time.Second

// Open makes the directory where it is missing. The caller runs Run beside
// whatever uses the store.
func Open(cfg Config) (*Store, error) {
	s := &Store{
		Store: cfg.Store, cfg: cfg, online: make(chan struct{}), noted: make(chan struct{}, 1),
		written: map[folder]map[string]bool{},
	}
	for name, f := range map[string]*folder{"bindings": &s.bindings, "statuses": &s.said, "unsent": &s.unsent} {
		var err error
		if *f, err = openFolder(filepath.Join(cfg.Dir, name)); err != nil {
			return nil, fmt.Errorf("open checkpoint: %w", err)
		}
	}
	var err error
	if s.left, err = s.unsent.read(); err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	return s, nil
}

// List implements registry.Store. Of the node's bindings and statuses it tells
// what is on the disk for as long as the store has not answered once. To the
// statuses that the store has it adds, at the end, those that were said later.
func (s *Store) List(ctx context.Context, prefix string, revision int64) ([]registry.KV, int64, error) {
	switch {
	case prefix == s.cfg.Bindings && revision == 0:
		return s.listBindings(ctx)
	case prefix == s.cfg.Statuses && revision == 0:
		return s.listStatuses(ctx)
	}
	return s.Store.List(ctx, prefix, revision)
}

func (s *Store) listBindings(ctx context.Context) ([]registry.KV, int64, error) {
	kvs, revision, err := s.listInTime(ctx, s.cfg.Bindings)
	if err == nil {
		s.noteList(kvs)
		s.once.Do(func() { close(s.online) })
		return kvs, revision, nil
	}
	if s.isOnline() || ctx.Err() != nil {
		return nil, 0, err
	}
	noted, readErr := s.bindings.read()
	if readErr != nil || len(noted) == 0 {
		return nil, 0, errors.Join(err, readErr)
	}
	s.cfg.Logger.Warn("store does not answer; the node goes on with the bindings of its checkpoint", "keys", len(noted), "error", err)
	return asKVs(noted), 1, nil
}

func (s *Store) listStatuses(ctx context.Context) ([]registry.KV, int64, error) {
	noted, readErr := s.said.read()
	kvs, revision, err := s.listInTime(ctx, s.cfg.Statuses)
	switch {
	case readErr != nil:
		s.cfg.Logger.Warn("pod statuses of the checkpoint not read", "error", readErr)
		return kvs, revision, err
	case err != nil && (s.isOnline() || len(noted) == 0 || ctx.Err() != nil):
		return nil, 0, err
	}
	return append(kvs, asKVs(noted)...), max(revision, 1), nil
}

// listInTime lists, and gives up early where the checkpoint can answer.
func (s *Store) listInTime(ctx context.Context, prefix string) ([]registry.KV, int64, error) {
	if !s.isOnline() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerWithin)
		defer cancel()
	}
	return s.Store.List(ctx, prefix, 0)
}

// Watch implements registry.Store. After a list from the disk it waits until
// the store answers, and then asks for a new list with ErrCompacted.
func (s *Store) Watch(ctx context.Context, prefix string, from int64, emit func(registry.Batch) error) error {
	if prefix != s.cfg.Bindings {
		return s.Store.Watch(ctx, prefix, from, emit)
	}
	if !s.isOnline() {
		return s.awaitStore(ctx)
	}
	return s.Store.Watch(ctx, prefix, from, func(b registry.Batch) error {
		s.noteBatch(b)
		return emit(b)
	})
}

// probeEvery is how often a store that is away is asked whether it is back.
const probeEvery = time.Second

func (s *Store) awaitStore(ctx context.Context) error {
	for {
		_, err := s.Get(ctx, s.cfg.Bindings)
		if err == nil || errors.Is(err, registry.ErrNotFound) {
			return registry.ErrCompacted
		}
		if !sleep(ctx, probeEvery) {
			return nil
		}
	}
}

// Commit implements registry.Store. Statuses are noted first, and count as
// unsent until the store has taken or refused them.
func (s *Store) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	s.sending.RLock()
	defer s.sending.RUnlock()
	var keys []string
	for _, op := range txn.Ops {
		if strings.HasPrefix(op.Key, s.cfg.Statuses) && !op.Delete {
			keys = append(keys, op.Key)
			s.note(s.said, op.Key, op.Value)
		}
	}
	revision, err := s.Store.Commit(ctx, txn)
	unsent := err != nil && !errors.Is(err, registry.ErrConflict) && !errors.Is(err, registry.ErrTooLarge)
	for _, op := range txn.Ops {
		if unsent && slices.Contains(keys, op.Key) {
			s.note(s.unsent, op.Key, op.Value)
		}
	}
	s.supersede(keys, !unsent)
	return revision, err
}

// supersede notes that newer statuses take the place of those that an earlier
// process left.
func (s *Store) supersede(keys []string, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.left, key)
		if sent {
			s.forget(s.unsent, key)
		}
	}
}

func (s *Store) noteList(kvs []registry.KV) {
	if s.cfg.Mark != "" && !slices.ContainsFunc(kvs, func(kv registry.KV) bool { return kv.Key == s.cfg.Mark }) {
		return // of an etcd that was emptied, say
	}
	before, err := s.bindings.read()
	if err != nil {
		s.cfg.Logger.Warn("checkpoint not read", "error", err)
		before = map[string][]byte{}
	}
	for _, kv := range kvs {
		if old, ok := before[kv.Key]; !ok || string(old) != string(kv.Value) {
			s.note(s.bindings, kv.Key, kv.Value)
		}
		delete(before, kv.Key)
	}
	for key := range before {
		s.forget(s.bindings, key)
	}
	s.dropStatuses(kvs)
}

// dropStatuses forgets what was said of pods that are no longer bound.
func (s *Store) dropStatuses(bindings []registry.KV) {
	bound := make(map[string]bool, len(bindings))
	for _, kv := range bindings {
		bound[s.cfg.StatusOf(kv.Key)] = true
	}
	noted, err := s.said.read()
	if err != nil {
		s.cfg.Logger.Warn("checkpoint not read", "error", err)
	}
	for key := range noted {
		if !bound[key] {
			s.forgetStatus(key)
		}
	}
}

func (s *Store) noteBatch(b registry.Batch) {
	for _, c := range b.Changes {
		if !c.Deleted {
			s.note(s.bindings, c.Key, c.Value)
			continue
		}
		s.forget(s.bindings, c.Key)
		if status := s.cfg.StatusOf(c.Key); status != "" {
			s.forgetStatus(status)
		}
	}
}

func (s *Store) forgetStatus(key string) {
	s.forget(s.said, key)
	s.forget(s.unsent, key)
}

func (s *Store) note(f folder, key string, value []byte) {
	if err := f.put(key, value); err != nil {
		s.cfg.Logger.Warn("not noted on disk; without the store this would be lost", "key", key, "error", err)
		return
	}
	s.mu.Lock()
	if s.written[f] == nil {
		s.written[f] = map[string]bool{}
	}
	s.written[f][key] = true
	s.mu.Unlock()
	select {
	case s.noted <- struct{}{}:
	default:
	}
}

func (s *Store) forget(f folder, key string) {
	if err := f.remove(key); err != nil {
		s.cfg.Logger.Warn("not removed from the checkpoint", "key", key, "error", err)
	}
}

func (s *Store) isOnline() bool {
	select {
	case <-s.online:
		return true
	default:
		return false
	}
}

func asKVs(values map[string][]byte) []registry.KV {
	kvs := make([]registry.KV, 0, len(values))
	for key, value := range values {
		kvs = append(kvs, registry.KV{Key: key, Value: value})
	}
	return kvs
}
