package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sync/errgroup"
)

// bare starts containers as containerd's own examples do: what a node agent is
// measured against.
type bare struct {
	client *client.Client
	image  client.Image
}

const bareNamespace = "evenkeel-bench-bare"

func openBare(ctx context.Context, address, archive, ref string) (*bare, error) {
	c, err := client.New(address)
	if err != nil {
		return nil, err
	}
	b := &bare{client: c}
	if err := b.load(namespaces.WithNamespace(ctx, bareNamespace), archive, ref); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return b, nil
}

func (b *bare) load(ctx context.Context, archive, ref string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := b.client.Import(ctx, f); err != nil {
		return fmt.Errorf("import %s: %w", archive, err)
	}
	if b.image, err = b.client.GetImage(ctx, ref); err != nil {
		return err
	}
	return b.image.Unpack(ctx, "")
}

// start times n containers, so many at once, and removes them. Their specs are
// containerd's own default with the options added.
func (b *bare) start(ctx context.Context, n, atOnce int, opts ...oci.SpecOpts) (float64, error) {
	ctx = namespaces.WithNamespace(ctx, bareNamespace)
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return b.startOne(ctx, fmt.Sprintf("bare-%d", i), opts) })
	}
	err := group.Wait()
	took := seconds(began)
	return took, errors.Join(err, b.removeAll(ctx))
}

func (b *bare) startOne(ctx context.Context, name string, opts []oci.SpecOpts) error {
	opts = append([]oci.SpecOpts{oci.WithImageConfig(b.image)}, opts...)
	c, err := b.client.NewContainer(ctx, name, client.WithNewSnapshot(name, b.image), client.WithNewSpec(opts...))
	if err != nil {
		return err
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return err
	}
	return task.Start(ctx)
}

func (b *bare) removeAll(ctx context.Context) error {
	containers, err := b.client.Containers(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, c := range containers {
		group.Go(func() error {
			if task, err := c.Task(ctx, nil); err == nil {
				if _, err := task.Delete(ctx, client.WithProcessKill); err != nil {
					return err
				}
			}
			return c.Delete(ctx, client.WithSnapshotCleanup)
		})
	}
	return group.Wait()
}

func (b *bare) close(ctx context.Context) error {
	ctx = namespaces.WithNamespace(ctx, bareNamespace)
	images, err := b.client.ImageService().List(ctx)
	for _, image := range images {
		err = errors.Join(err, b.client.ImageService().Delete(ctx, image.Name))
	}
	return errors.Join(err, b.client.Close())
}
