package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// List implements registry.Store.
func (s *Store) List(ctx context.Context, prefix string, revision int64) ([]registry.KV, int64, error) {
	kvs, revision, err := s.snapshot(ctx, prefix, revision)
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	return sorted(kvs), revision, nil
}

// Page implements registry.Store.
func (s *Store) Page(ctx context.Context, r registry.Range) (page []registry.KV, revision, remaining int64, err error) {
	kvs, revision, err := s.snapshot(ctx, r.Prefix, r.Revision)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list %s: %w", r.Prefix, err)
	}
	maps.DeleteFunc(kvs, func(key string, _ registry.KV) bool { return key < r.From })
	page = sorted(kvs)
	if n := int64(len(page)); r.Limit > 0 && n > r.Limit {
		return page[:r.Limit], revision, n - r.Limit, nil
	}
	return page, revision, 0, nil
}

// GetAll implements registry.Store.
func (s *Store) GetAll(ctx context.Context, keys []string, revision int64) ([]registry.KV, error) {
	kvs, _, err := s.snapshot(ctx, "", revision)
	if err != nil {
		return nil, fmt.Errorf("get %d keys: %w", len(keys), err)
	}
	var out []registry.KV
	for _, key := range keys {
		if kv, ok := kvs[key]; ok {
			out = append(out, kv)
		}
	}
	return out, nil
}

func sorted(kvs map[string]registry.KV) []registry.KV {
	return slices.SortedFunc(maps.Values(kvs), func(a, b registry.KV) int { return strings.Compare(a.Key, b.Key) })
}

// snapshot is the keys with a prefix as of a revision, 0 for now.
func (s *Store) snapshot(ctx context.Context, prefix string, revision int64) (map[string]registry.KV, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case revision == 0:
		revision = s.revision
	case revision < s.compacted:
		return nil, 0, fmt.Errorf("at %d: %w", revision, registry.ErrCompacted)
	case revision > s.revision:
		return nil, 0, fmt.Errorf("at %d, now %d: %w", revision, s.revision, registry.ErrFuture)
	}
	kvs := maps.Collect(withPrefix(s.keys, prefix))
	s.rewindLocked(kvs, prefix, revision)
	return kvs, revision, nil
}

func withPrefix(keys map[string]registry.KV, prefix string) func(func(string, registry.KV) bool) {
	return func(yield func(string, registry.KV) bool) {
		for k, kv := range keys {
			if strings.HasPrefix(k, prefix) && !yield(k, kv) {
				return
			}
		}
	}
}

// rewindLocked takes kvs, the keys as they are now, back to what they were at
// a revision.
func (s *Store) rewindLocked(kvs map[string]registry.KV, prefix string, revision int64) {
	touched := map[string]bool{}
	for _, c := range s.history {
		if c.Mod > revision && strings.HasPrefix(c.Key, prefix) {
			touched[c.Key] = true
		}
	}
	for key := range touched {
		delete(kvs, key)
	}
	for _, c := range s.history {
		if c.Mod > revision || !touched[c.Key] {
			continue
		}
		if c.Deleted {
			delete(kvs, c.Key)
		} else {
			kvs[c.Key] = c.KV
		}
	}
}
