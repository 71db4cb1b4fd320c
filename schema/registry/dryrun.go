package registry

import (
	"context"
	"errors"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// DryRun returns what Commit of one write would, and writes nothing: the
// errors are the same, conflicts with what others hold included. An object
// that would be made has no resourceVersion, one that would be changed the
// one that it has now.
func (r *Registries) DryRun(ctx context.Context, w Write) (schema.Object, error) {
	dry := *r
	dry.store = dryStore{r.store}
	dry.events = &eventLease{}
	return dry.one(ctx, w)
}

// dryStore is a store whose transactions are judged and not carried out.
type dryStore struct{ Store }

// Commit returns the revision 0, or what would be wrong with the transaction.
// Its guards are read one after the other, not at one revision.
func (s dryStore) Commit(ctx context.Context, txn Txn) (int64, error) {
	if err := CheckTxn(txn); err != nil {
		return 0, err
	}
	for _, g := range txn.Guards {
		kv, err := s.Get(ctx, g.Key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		if !g.Holds(kv.Mod) {
			return 0, &ConflictError{Key: g.Key, Current: kv.Mod}
		}
	}
	return 0, nil
}

// Grant makes no lease: nothing will be on it.
func (s dryStore) Grant(context.Context, time.Duration) (LeaseID, error) { return 0, nil }
