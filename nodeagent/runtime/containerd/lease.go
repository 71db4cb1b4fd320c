package containerd

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
)

const (
	pullLeasePrefix = "pull-"
	// pullLeaseTime is how long what an interrupted pull brought is kept.
	pullLeaseTime = 24 * time.Hour
)

func pullLease(ref string) string {
	h := fnv.New64a()
	h.Write([]byte(ref))
	return fmt.Sprintf("%s%016x", pullLeasePrefix, h.Sum64())
}

// leasePull keeps all that arrives in the context it returns from containerd's
// garbage collector, until release is called without keep: then what is not
// part of an image goes, before release returns if the pull did not succeed.
func (r *Runtime) leasePull(ctx context.Context, ref string) (_ context.Context, release func(keep bool) error, err error) {
	manager := r.client.LeasesService()
	lease := leases.Lease{ID: pullLease(ref)}
	create := func() error {
		_, err := manager.Create(ctx, leases.WithID(lease.ID), leases.WithExpiration(pullLeaseTime))
		return err
	}
	err = create()
	if exists(err) {
		err = nil
		if r.isOld(ctx, lease.ID) {
			_ = manager.Delete(ctx, lease)
			err = create()
		}
	}
	if err != nil {
		return nil, nil, wrap("lease what is pulled of "+ref, err)
	}
	return leases.WithLease(ctx, lease.ID), func(keep bool) error {
		if keep {
			return nil
		}
		done, cancel := r.detached(ctx)
		defer cancel()
		if err := manager.Delete(done, lease, leases.SynchronousDelete); err != nil && !gone(err) {
			return wrap("let go of what was pulled of "+ref, err)
		}
		return nil
	}, nil
}

// isOld reports whether a lease may end while the next pull is under way.
func (r *Runtime) isOld(ctx context.Context, id string) bool {
	found, err := r.client.LeasesService().List(ctx, fmt.Sprintf("id==%s", id))
	return err == nil && len(found) == 1 && time.Since(found[0].CreatedAt) > pullLeaseTime/2
}

// sweepLeases lets go of what was leased before the connection to containerd
// was made or last lost: whoever did so has ended, or has been told that it
// failed. What an interrupted pull brought stays for the next.
func (r *Runtime) sweepLeases(ctx context.Context) error {
	before := time.Unix(0, r.connected.Load())
	manager := r.client.LeasesService()
	list, err := manager.List(ctx)
	if err != nil {
		return wrap("list leases", err)
	}
	for _, lease := range list {
		if strings.HasPrefix(lease.ID, pullLeasePrefix) || !lease.CreatedAt.Before(before) {
			continue
		}
		if err := manager.Delete(ctx, lease); err != nil && !gone(err) {
			return wrap("remove lease "+lease.ID, err)
		}
	}
	return nil
}

// dropPullLeases lets go of what interrupted pulls left.
func (r *Runtime) dropPullLeases(ctx context.Context) error {
	manager := r.client.LeasesService()
	list, err := manager.List(ctx)
	if err != nil {
		return wrap("list leases", err)
	}
	for _, lease := range list {
		if !strings.HasPrefix(lease.ID, pullLeasePrefix) || r.isPulling(lease.ID) {
			continue
		}
		if err := manager.Delete(ctx, lease); err != nil && !gone(err) {
			return wrap("remove lease "+lease.ID, err)
		}
	}
	return nil
}
