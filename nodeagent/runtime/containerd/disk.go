package containerd

import (
	"context"

	"github.com/containerd/containerd/v2/core/snapshots"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// DiskUsage is what a container wrote to its root file system. It walks the
// files, and takes as long as there are many.
func (r *Runtime) DiskUsage(ctx context.Context, id string) (rt.DiskUsage, error) {
	usage, err := r.client.SnapshotService(r.cfg.Snapshotter).Usage(r.scope(ctx), id)
	if err != nil {
		return rt.DiskUsage{}, wrap("disk usage of "+id, err)
	}
	return rt.DiskUsage{Bytes: usage.Size, Inodes: usage.Inodes}, nil
}

// ImageDisk is what the layers of this node's images take below containerd's
// root.
func (r *Runtime) ImageDisk(ctx context.Context) (string, rt.DiskUsage, error) {
	ctx = r.scope(ctx)
	path, err := r.root(ctx)
	if err != nil {
		return "", rt.DiskUsage{}, err
	}
	var total rt.DiskUsage
	store := r.client.SnapshotService(r.cfg.Snapshotter)
	err = store.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			return nil
		}
		usage, err := store.Usage(ctx, info.Name)
		if gone(err) {
			return nil
		}
		total.Bytes += usage.Size
		total.Inodes += usage.Inodes
		return err
	})
	return path, total, wrap("disk usage of images", err)
}

// root is where the snapshotter keeps its files.
func (r *Runtime) root(ctx context.Context) (string, error) {
	plugins, err := r.client.IntrospectionService().Plugins(ctx, `type==io.containerd.snapshotter.v1,id==`+r.cfg.Snapshotter)
	if err != nil {
		return "", wrap("find containerd's root", err)
	}
	for _, p := range plugins.Plugins {
		if root := p.Exports["root"]; root != "" {
			return root, nil
		}
	}
	return defaultRoot, nil
}

// defaultRoot is where containerd keeps everything unless told otherwise.
const defaultRoot = "/var/lib/containerd"
