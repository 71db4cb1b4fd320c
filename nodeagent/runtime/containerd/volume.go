package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// The labels of a snapshot that is a volume of a pod: whose it is, and that
// containerd's garbage collector keeps it, with all that it is made of.
const (
	volumeLabel = "evenkeel.io/volume-of"
	keptLabel   = "containerd.io/gc.root"
)

// MountImage mounts a view of the image's topmost snapshot. One that an
// earlier process made, and did not mount, is made anew: the image may be
// another one by now.
func (r *Runtime) MountImage(ctx context.Context, m rt.ImageMount) error {
	ctx = r.scope(ctx)
	img, release, err := r.heldImage(ctx, m.Image)
	if err != nil {
		return err
	}
	defer release()
	if err := r.ensureUnpacked(ctx, img); err != nil {
		return err
	}
	mounts, err := r.volumeView(ctx, m, img)
	if gone(err) {
		if err := r.repack(ctx, img); err != nil {
			return err
		}
		mounts, err = r.volumeView(ctx, m, img)
	}
	if err != nil {
		return wrap("look into image "+img.record.Name, err)
	}
	if m.User != "" {
		key := volumeKey(m)
		defer r.starts(key)()
		defer func() { _ = r.dropMapped(key) }() // a sweep makes up for it
		if mounts, err = r.mapView(key, mounts, m.User); err != nil {
			return fmt.Errorf("image %s: %w", img.record.Name, err)
		}
	}
	if err := mount.All(mounts, m.Target); err != nil {
		return fmt.Errorf("mount image %s: %w", img.record.Name, err)
	}
	// Its end must end nothing where it was bound from.
	if err := unix.Mount("", m.Target, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("mount image %s: %w", img.record.Name, err), unix.Unmount(m.Target, unix.MNT_DETACH))
	}
	return nil
}

func volumeKey(m rt.ImageMount) string { return "volume-" + m.PodUID + "-" + m.Volume }

func (r *Runtime) volumeView(ctx context.Context, m rt.ImageMount, img image) ([]mount.Mount, error) {
	store := r.client.SnapshotService(r.cfg.Snapshotter)
	key := volumeKey(m)
	labels := snapshots.WithLabels(map[string]string{volumeLabel: m.PodUID, keptLabel: "true"})
	mounts, err := store.View(ctx, key, img.chain, labels)
	if exists(err) {
		if err = store.Remove(ctx, key); err == nil {
			mounts, err = store.View(ctx, key, img.chain, labels)
		}
	}
	return mounts, err
}

// ReleaseImages removes the views that were made for a pod.
func (r *Runtime) ReleaseImages(ctx context.Context, podUID string) error {
	ctx = r.scope(ctx)
	store := r.client.SnapshotService(r.cfg.Snapshotter)
	var keys []string
	err := store.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	}, fmt.Sprintf("labels.%q==%q", volumeLabel, podUID))
	if err != nil {
		return wrap("list image volumes of pod "+podUID, err)
	}
	for _, key := range keys {
		if err := store.Remove(ctx, key); err != nil && !gone(err) {
			return wrap("remove image volume "+key, err)
		}
	}
	return nil
}
