// Package etcd is the registry.Store on an etcd cluster. With the packages
// below it, it is the only one that imports etcd.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// requestTimeout bounds one request, so that an etcd without a leader is an
// error and not a hang.
const requestTimeout = 10 * time.Second

// Store implements registry.Store. It does not own the client.
type Store struct{ client *clientv3.Client }

// NewStore returns a store on a client that the caller closes.
func NewStore(client *clientv3.Client) *Store { return &Store{client: client} }

// Commit implements registry.Store.
func (s *Store) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if err := registry.CheckTxn(txn); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conditions, reads := guardsOf(txn.Guards)
	resp, err := s.client.Txn(ctx).If(conditions...).Then(opsOf(txn.Ops)...).Else(reads...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", txnName(txn), storeError(err))
	}
	if !resp.Succeeded {
		return 0, conflictOf(txn.Guards, resp)
	}
	return resp.Header.Revision, nil
}

func guardsOf(guards []registry.Guard) (conditions []clientv3.Cmp, reads []clientv3.Op) {
	for _, g := range guards {
		if g.Mod == registry.Present {
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(g.Key), ">", 0))
		} else {
			conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(g.Key), "=", g.Mod))
		}
		reads = append(reads, clientv3.OpGet(g.Key, clientv3.WithKeysOnly()))
	}
	return conditions, reads
}

func opsOf(ops []registry.Op) []clientv3.Op {
	out := make([]clientv3.Op, 0, len(ops))
	for _, op := range ops {
		if op.Delete {
			out = append(out, clientv3.OpDelete(op.Key))
			continue
		}
		var options []clientv3.OpOption
		if op.Lease != 0 {
			options = append(options, clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		}
		out = append(out, clientv3.OpPut(op.Key, string(op.Value), options...))
	}
	return out
}

// conflictOf finds the first guard that the values read in the same
// transaction contradict.
func conflictOf(guards []registry.Guard, resp *clientv3.TxnResponse) error {
	for i, g := range guards {
		var current int64
		if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			current = kvs[0].ModRevision
		}
		if !g.Holds(current) {
			return &registry.ConflictError{Key: g.Key, Current: current}
		}
	}
	return fmt.Errorf("transaction refused though its guards hold: %w", registry.ErrConflict)
}

func txnName(txn registry.Txn) string {
	if len(txn.Ops) == 0 {
		return "nothing"
	}
	if len(txn.Ops) == 1 {
		return txn.Ops[0].Key
	}
	return fmt.Sprintf("%s and %d more", txn.Ops[0].Key, len(txn.Ops)-1)
}

// Watch implements registry.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from int64, emit func(registry.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	responses := s.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	for resp := range responses {
		if resp.CompactRevision != 0 {
			return fmt.Errorf("watch %s from %d: %w", prefix, from, registry.ErrCompacted)
		}
		if err := resp.Err(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: %w", prefix, storeError(err))
		}
		if len(resp.Events) == 0 {
			continue
		}
		if err := emit(batchOf(resp)); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch %s: closed: %w", prefix, registry.ErrUnavailable)
}

func batchOf(resp clientv3.WatchResponse) registry.Batch {
	batch := registry.Batch{Changes: make([]registry.Change, 0, len(resp.Events))}
	for _, e := range resp.Events {
		change := registry.Change{KV: kvOf(e.Kv), Deleted: e.Type == clientv3.EventTypeDelete}
		batch.Changes = append(batch.Changes, change)
		batch.Revision = e.Kv.ModRevision
	}
	return batch
}

// Grant implements registry.Store.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (registry.LeaseID, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Grant(ctx, max(1, int64(ttl/time.Second)))
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", storeError(err))
	}
	return registry.LeaseID(resp.ID), nil
}

// KeepAlive implements registry.Store.
func (s *Store) KeepAlive(ctx context.Context, id registry.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("keep lease %x alive: %w", int64(id), registry.ErrLeaseGone)
	}
	if err != nil {
		return fmt.Errorf("keep lease %x alive: %w", int64(id), storeError(err))
	}
	return nil
}

// TimeLeft implements registry.Store. etcd knows it in whole seconds.
func (s *Store) TimeLeft(ctx context.Context, id registry.LeaseID) (left, ttl time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return 0, 0, fmt.Errorf("ask for lease %x: %w", int64(id), storeError(err))
	}
	if resp.TTL < 0 { // as the client says that there is none
		return 0, 0, fmt.Errorf("ask for lease %x: %w", int64(id), registry.ErrLeaseGone)
	}
	return time.Duration(resp.TTL) * time.Second, time.Duration(resp.GrantedTTL) * time.Second, nil
}

// Revoke implements registry.Store.
func (s *Store) Revoke(ctx context.Context, id registry.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, clientv3.LeaseID(id))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke lease %x: %w", int64(id), storeError(err))
	}
	return nil
}

func kvOf(kv *mvccpb.KeyValue) registry.KV {
	return registry.KV{Key: string(kv.Key), Value: kv.Value, Create: kv.CreateRevision, Mod: kv.ModRevision, Lease: registry.LeaseID(kv.Lease)}
}

// storeError says in the registry's words what etcd said; the original stays
// in the chain.
func storeError(err error) error {
	for from, to := range storeErrors {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	code := status.Code(err)
	if errors.Is(err, context.DeadlineExceeded) || code == codes.Unavailable || code == codes.DeadlineExceeded {
		return fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
	return err
}

var storeErrors = map[error]error{
	rpctypes.ErrCompacted:       registry.ErrCompacted,
	rpctypes.ErrFutureRev:       registry.ErrFuture,
	rpctypes.ErrNoSpace:         registry.ErrNoSpace,
	rpctypes.ErrRequestTooLarge: registry.ErrTooLarge,
	rpctypes.ErrLeaseNotFound:   registry.ErrLeaseGone,
	rpctypes.ErrNoLeader:        registry.ErrUnavailable,
	rpctypes.ErrTimeout:         registry.ErrUnavailable,
}
