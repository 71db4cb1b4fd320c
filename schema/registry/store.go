package registry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MaxOps is the largest number of guards, and of operations, in one Txn: the
// default limit of an etcd server.
const MaxOps = 128

// MaxValue is the largest value in bytes that a Store must take.
const MaxValue = 1 << 20

// Errors of a Store, for errors.Is.
var (
	ErrNotFound    = errors.New("key not found")
	ErrConflict    = errors.New("conflict")
	ErrCompacted   = errors.New("revision compacted")
	ErrFuture      = errors.New("revision is still to come")
	ErrUnavailable = errors.New("store does not answer") // a write may or may not have happened
	ErrTooLarge    = errors.New("too large for the store")
	ErrNoSpace     = errors.New("store is out of space")
	ErrLeaseGone   = errors.New("lease expired or revoked")
)

// LeaseID names a lease; 0 is none.
type LeaseID int64

// KV is one key as stored. Value must not be changed by whoever receives it.
type KV struct {
	Key    string
	Value  []byte
	Create int64 // revision at which the key came to be
	Mod    int64 // revision of the last change
	Lease  LeaseID
}

// The revisions that a Guard compares with, beside those of real changes.
const (
	Absent  int64 = 0  // the key must not exist
	Present int64 = -1 // the key must exist, whatever its revision
)

// Guard is a condition of a transaction: the key's ModRevision is Mod.
type Guard struct {
	Key string
	Mod int64
}

// Holds reports whether the guard holds where its key's ModRevision is
// current, 0 for a key that is absent.
func (g Guard) Holds(current int64) bool {
	return g.Mod == current || g.Mod == Present && current != 0
}

// Op is one write: a put, or a deletion.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
	Lease  LeaseID // of a put; 0 keeps the key for ever
}

// Put writes a value.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete removes a key; no error if there is none.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Txn happens whole or not at all, at one revision.
type Txn struct {
	Guards []Guard
	Ops    []Op
}

// ConflictError tells which guard of a Txn did not hold. It is ErrConflict.
type ConflictError struct {
	Key     string
	Current int64 // ModRevision now; 0 if the key is absent
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict at %s: revision is %d", e.Key, e.Current)
}

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Change is one event of a watch.
type Change struct {
	KV      // for a deletion only Key and Mod, the revision of the deletion
	Deleted bool
}

// Batch is what a watch delivers at once: all the changes of one or more whole
// revisions, in order. Revision is the last one it covers.
type Batch struct {
	Changes  []Change
	Revision int64
}

// Range is a part of the keys with a prefix.
type Range struct {
	Prefix   string
	From     string // no key before it; "" for the first
	Limit    int64  // at most so many keys; 0 for all
	Revision int64  // as of this revision; 0 for now
}

// Store is bytes by key with one revision for all, as etcd has them. All
// methods are safe to call at once.
type Store interface {
	// Get returns the current value of a key, or ErrNotFound.
	Get(ctx context.Context, key string) (KV, error)
	// List returns all keys with the prefix in order, as of one revision, and
	// that revision. revision 0 asks for now; an old one may be ErrCompacted,
	// one that is not there yet is ErrFuture.
	List(ctx context.Context, prefix string, revision int64) ([]KV, int64, error)
	// Page returns the keys of a range in order, their revision, and how many
	// keys with the prefix come after them.
	Page(ctx context.Context, r Range) (kvs []KV, revision, remaining int64, err error)
	// GetAll returns those of the keys that there are, as of one revision, in
	// the order in which they are named. revision is as for List.
	GetAll(ctx context.Context, keys []string, revision int64) ([]KV, error)
	// Commit applies a transaction and returns its revision. A guard that does
	// not hold is a *ConflictError and nothing is written. After
	// ErrUnavailable it may have happened: read before trying again.
	Commit(ctx context.Context, txn Txn) (int64, error)
	// Watch calls emit with every change of keys with the prefix from the
	// given revision on, in order and without gaps. It blocks until ctx ends
	// (nil), emit fails (its error), the revision is compacted (ErrCompacted)
	// or the store is lost (ErrUnavailable).
	Watch(ctx context.Context, prefix string, from int64, emit func(Batch) error) error
	// Grant makes a lease: unless it is kept alive, it and its keys are gone
	// after ttl (whole seconds, at least one).
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive extends a lease once by its ttl; ErrLeaseGone if it is no more.
	KeepAlive(ctx context.Context, id LeaseID) error
	// TimeLeft returns how long a lease still has, and of what ttl;
	// ErrLeaseGone if it is no more.
	TimeLeft(ctx context.Context, id LeaseID) (left, ttl time.Duration, err error)
	// Revoke ends a lease and deletes its keys; nil if it is gone.
	Revoke(ctx context.Context, id LeaseID) error
}

// CheckTxn returns an error for a transaction that no Store takes.
func CheckTxn(txn Txn) error {
	if len(txn.Guards) > MaxOps || len(txn.Ops) > MaxOps {
		return fmt.Errorf("transaction of %d guards and %d operations, at most %d: %w", len(txn.Guards), len(txn.Ops), MaxOps, ErrTooLarge)
	}
	seen := make(map[string]bool, len(txn.Ops))
	for _, op := range txn.Ops {
		if seen[op.Key] {
			return fmt.Errorf("%s: written twice in one transaction", op.Key)
		}
		seen[op.Key] = true
		if len(op.Value) > MaxValue {
			return fmt.Errorf("%s: value of %d bytes, at most %d: %w", op.Key, len(op.Value), MaxValue, ErrTooLarge)
		}
	}
	return nil
}
