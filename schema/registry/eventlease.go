package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// eventLease is the lease of the events that are written at about the same
// time: they are gone an hour after they last happened.
type eventLease struct {
	mu    sync.Mutex
	id    LeaseID
	since time.Time
}

// share is for how long events are written on one lease.
const share = 5 * time.Minute

// on puts the events among operations on a lease.
func (l *eventLease) on(ctx context.Context, store Store, ops []Op) error {
	for i := range ops {
		if ops[i].Delete || ops[i].Lease != 0 || !strings.HasPrefix(ops[i].Key, schema.Events.Prefix("")) {
			continue
		}
		id, err := l.get(ctx, store)
		if err != nil {
			return fmt.Errorf("lease of %s: %w", ops[i].Key, err)
		}
		ops[i].Lease = id
	}
	return nil
}

func (l *eventLease) get(ctx context.Context, store Store) (LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 && time.Since(l.since) < share {
		return l.id, nil
	}
	id, err := store.Grant(ctx, eventTTL+share)
	if err != nil {
		return 0, err
	}
	l.id, l.since = id, time.Now()
	return id, nil
}

// failed looks at why a write failed: a lease that is gone is not used again.
func (l *eventLease) failed(err error) {
	if !errors.Is(err, ErrLeaseGone) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = 0
}
