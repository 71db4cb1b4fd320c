package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// ElectionConfig names a role that at most one process has at a time.
type ElectionConfig struct {
	Store Store
	Role  string        // "reconcile"
	ID    string        // who stands: host name and process
	TTL   time.Duration // how long a dead leader keeps the role; default 10 s
	// Dead, if set, reports whether the process of an ID is known to be gone:
	// its role is then free at once.
	Dead   func(id string) bool
	Logger *slog.Logger // required
}

// Lead waits until this process has the role and then calls lead, whose
// context ends when the role is lost; the guard given to it holds while the
// process has the role. Lead returns when ctx ends (nil) or lead returns by
// itself (its error); after a lost role it stands again.
func Lead(ctx context.Context, cfg ElectionConfig, lead func(ctx context.Context, fence Guard) error) error {
	if cfg.TTL == 0 {
		cfg.TTL = 10 * time.Second
	}
	wait := newBackoff()
	for ctx.Err() == nil {
		lost, err := term(ctx, cfg, lead)
		if ctx.Err() != nil {
			return nil
		}
		if !lost {
			return err
		}
		if err != nil {
			cfg.Logger.Warn("election", "role", cfg.Role, "error", err)
			wait.wait(ctx)
		}
	}
	return nil
}

// term is one candidature: lost is true when there should be another.
func term(ctx context.Context, cfg ElectionConfig, lead func(context.Context, Guard) error) (lost bool, err error) {
	key := schema.ElectionPrefix + cfg.Role
	lease, err := cfg.Store.Grant(ctx, cfg.TTL)
	if err != nil {
		return true, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = cfg.Store.Revoke(end, lease) // it runs out by itself otherwise
	}()
	revision, err := cfg.Store.Commit(ctx, Txn{
		Guards: []Guard{{Key: key, Mod: Absent}},
		Ops:    []Op{{Key: key, Value: []byte(cfg.ID), Lease: lease}},
	})
	if errors.Is(err, ErrConflict) {
		return true, awaitVacancy(ctx, cfg, key)
	}
	if err != nil {
		return true, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		cancel(HoldLease(ctx, cfg.Store, lease, cfg.TTL))
	}()
	err = lead(ctx, Guard{Key: key, Mod: revision})
	lost = ctx.Err() != nil || errors.Is(err, ErrFenced)
	cancel(nil)
	<-kept
	return lost, err
}

var errVacant = errors.New("role is vacant")

// awaitVacancy returns when the role's key is gone.
func awaitVacancy(ctx context.Context, cfg ElectionConfig, key string) error {
	kvs, revision, err := cfg.Store.List(ctx, key, 0)
	if err != nil || len(kvs) == 0 {
		return err
	}
	if cfg.Dead != nil && cfg.Dead(string(kvs[0].Value)) {
		return depose(ctx, cfg, kvs[0])
	}
	cfg.Logger.Info("another process leads; standing by", "role", cfg.Role, "leader", string(kvs[0].Value))
	err = cfg.Store.Watch(ctx, key, revision+1, func(b Batch) error {
		for _, c := range b.Changes {
			if c.Deleted && c.Key == key {
				return errVacant
			}
		}
		return nil
	})
	if errors.Is(err, errVacant) {
		return nil
	}
	return err
}

// depose frees the role that a dead process holds.
func depose(ctx context.Context, cfg ElectionConfig, holder KV) error {
	_, err := cfg.Store.Commit(ctx, Txn{
		Guards: []Guard{{Key: holder.Key, Mod: holder.Mod}},
		Ops:    []Op{Delete(holder.Key)},
	})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// HoldLease keeps a lease alive until ctx ends (nil) or the lease is, or may
// be, no more: it counts only its own monotonic time since the last success.
func HoldLease(ctx context.Context, store Store, lease LeaseID, ttl time.Duration) error {
	ticker := time.NewTicker(ttl / 3)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, ttl/3)
		err := store.KeepAlive(attempt, lease)
		cancel()
		switch {
		case err == nil:
			last = began
		case errors.Is(err, ErrLeaseGone):
			return err
		case time.Since(last) > ttl*9/10:
			return fmt.Errorf("lease not kept alive for %v: %w", time.Since(last).Round(time.Millisecond), err)
		}
	}
}
