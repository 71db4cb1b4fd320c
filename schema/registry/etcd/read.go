package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// pageSize is how many keys one request of a List asks for.
const pageSize = 2000

// Get implements registry.Store.
func (s *Store) Get(ctx context.Context, key string) (registry.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return registry.KV{}, fmt.Errorf("get %s: %w", key, storeError(err))
	}
	if len(resp.Kvs) == 0 {
		return registry.KV{}, fmt.Errorf("get %s: %w", key, registry.ErrNotFound)
	}
	return kvOf(resp.Kvs[0]), nil
}

// List implements registry.Store, in pages of one revision.
func (s *Store) List(ctx context.Context, prefix string, revision int64) ([]registry.KV, int64, error) {
	var all []registry.KV
	r := registry.Range{Prefix: prefix, Limit: pageSize, Revision: revision}
	for {
		kvs, at, remaining, err := s.Page(ctx, r)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, kvs...)
		if remaining == 0 || len(kvs) == 0 {
			return all, at, nil
		}
		r.Revision, r.From = at, kvs[len(kvs)-1].Key+"\x00"
	}
}

// Page implements registry.Store.
func (s *Store) Page(ctx context.Context, r registry.Range) (kvs []registry.KV, revision, remaining int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(r.Prefix))
	resp, err := s.client.Get(ctx, max(r.From, r.Prefix), end, clientv3.WithRev(r.Revision), clientv3.WithLimit(r.Limit))
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list %s: %w", r.Prefix, storeError(err))
	}
	kvs = make([]registry.KV, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		kvs = append(kvs, kvOf(kv))
	}
	if revision = r.Revision; revision == 0 {
		revision = resp.Header.Revision
	}
	return kvs, revision, resp.Count - int64(len(kvs)), nil
}

// GetAll implements registry.Store, in as few requests as etcd takes.
func (s *Store) GetAll(ctx context.Context, keys []string, revision int64) ([]registry.KV, error) {
	var out []registry.KV
	for len(keys) > 0 {
		n := min(len(keys), registry.MaxOps)
		resp, err := s.getSome(ctx, keys[:n], revision)
		if err != nil {
			return nil, fmt.Errorf("get %d keys: %w", n, storeError(err))
		}
		for _, r := range resp.Responses {
			for _, kv := range r.GetResponseRange().Kvs {
				out = append(out, kvOf(kv))
			}
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		keys = keys[n:]
	}
	return out, nil
}

func (s *Store) getSome(ctx context.Context, keys []string, revision int64) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ops := make([]clientv3.Op, 0, len(keys))
	for _, key := range keys {
		ops = append(ops, clientv3.OpGet(key, clientv3.WithRev(revision)))
	}
	return s.client.Txn(ctx).Then(ops...).Commit()
}
