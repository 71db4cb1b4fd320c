package containerd

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// removers is how many containers Cleanup removes at once.
const removers = 8

// Cleanup removes what this node has in containerd. With images the node's
// containerd namespace goes too; without, images and their snapshots stay for
// the next start.
func (r *Runtime) Cleanup(ctx context.Context, withImages bool) error {
	ctx = r.scope(ctx)
	ending, err := shims(r.cfg.Namespace)
	if err != nil {
		return fmt.Errorf("look for shims: %w", err)
	}
	if err := r.removeContainers(ctx); err != nil {
		return err
	}
	if err := r.sweepShims(ctx); err != nil {
		return err
	}
	awaitShims(ctx, ending)
	if err := r.removeMapped(); err != nil {
		return err
	}
	if err := r.removeLeases(ctx); err != nil {
		return err
	}
	if withImages {
		if err := r.removeImages(ctx); err != nil {
			return err
		}
	}
	if err := r.removeSnapshots(ctx, withImages); err != nil {
		return err
	}
	if r.cfg.CgroupRoot != "" {
		if err := r.cgroups.remove(r.cfg.CgroupRoot); err != nil {
			return err
		}
		r.cgroups.removeEmpty(path.Dir(r.cfg.CgroupRoot)) // which other nodes may share
	}
	if !withImages {
		return nil
	}
	return r.removeNamespace(ctx)
}

func (r *Runtime) removeContainers(ctx context.Context) error {
	records, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return wrap("list containers", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removers)
	for _, record := range records {
		group.Go(func() error { return r.remove(ctx, record.ID) })
	}
	return group.Wait()
}

func (r *Runtime) removeLeases(ctx context.Context) error {
	manager := r.client.LeasesService()
	list, err := manager.List(ctx)
	if err != nil {
		return wrap("list leases", err)
	}
	for _, lease := range list {
		if err := manager.Delete(ctx, leases.Lease{ID: lease.ID}); err != nil && !gone(err) {
			return wrap("remove lease "+lease.ID, err)
		}
	}
	return nil
}

func (r *Runtime) removeImages(ctx context.Context) error {
	store := r.client.ImageService()
	list, err := store.List(ctx)
	if err != nil {
		return wrap("list images", err)
	}
	for _, img := range list {
		if err := store.Delete(ctx, img.Name); err != nil && !gone(err) {
			return wrap("remove image "+img.Name, err)
		}
	}
	r.images.clear()
	contents := r.client.ContentStore()
	var digests []content.Info
	if err := contents.Walk(ctx, func(info content.Info) error { digests = append(digests, info); return nil }); err != nil {
		return wrap("list image content", err)
	}
	for _, info := range digests {
		if err := contents.Delete(ctx, info.Digest); err != nil && !gone(err) {
			return wrap("remove content "+info.Digest.String(), err)
		}
	}
	return nil
}

// snapshotPasses bounds how often snapshots are gone through: their depth, and
// what containerd's garbage collector has to be asked for.
const snapshotPasses = 200

// removeSnapshots deletes children before their parents: pass after pass, all
// that nothing builds upon. Without images only what containers wrote goes. A
// child that a killed containerd half made is not listed; its garbage collector
// removes it.
func (r *Runtime) removeSnapshots(ctx context.Context, all bool) error {
	store := r.client.SnapshotService(r.cfg.Snapshotter)
	for range snapshotPasses {
		rest, leaves, err := r.snapshots(ctx, store, all)
		if err != nil || len(rest) == 0 {
			return err
		}
		removed := 0
		for _, name := range leaves {
			err := store.Remove(ctx, name)
			if errdefs.IsFailedPrecondition(native(err)) {
				continue
			}
			if err != nil && !gone(err) {
				return wrap("remove snapshot "+name, err)
			}
			removed++
		}
		if removed == 0 {
			if err := r.collect(ctx); err != nil {
				return wrap("collect garbage", err)
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return errors.New("remove snapshots: some remain that others build upon")
}

// snapshots lists those to remove, and which of them nothing builds upon.
func (r *Runtime) snapshots(ctx context.Context, store snapshots.Snapshotter, all bool) (rest, leaves []string, err error) {
	parents := map[string]bool{}
	err = store.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		parents[info.Parent] = true
		if all || info.Kind != snapshots.KindCommitted {
			rest = append(rest, info.Name)
		}
		return nil
	})
	for _, name := range rest {
		if !parents[name] {
			leaves = append(leaves, name)
		}
	}
	return rest, leaves, wrap("list snapshots", err)
}

// removeNamespace deletes the containerd namespace, once containerd's garbage
// collector, which an image's removal wakes, has let go of what was in it.
func (r *Runtime) removeNamespace(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := r.client.NamespaceService().Delete(bounded, r.cfg.Namespace)
		if err == nil || gone(err) {
			return nil
		}
		if !errdefs.IsFailedPrecondition(err) {
			return wrap("remove namespace "+r.cfg.Namespace, err)
		}
		if r.collect(bounded) != nil || pause(bounded, 50*time.Millisecond) != nil {
			return errors.Join(wrap("remove namespace "+r.cfg.Namespace, err), ctx.Err())
		}
	}
}
