package containerd

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sync/errgroup"
)

const (
	benchPods    = 30
	benchWorkers = 4
)

// BenchmarkStart30 starts thirty pods of one container through the Runtime,
// and the same thirty containers by a bare client, on the same containerd.
//
//	go test -run - -bench Start30 -benchtime 3x ./nodeagent/runtime/containerd
func BenchmarkStart30(b *testing.B) {
	b.Run("runtime", func(b *testing.B) { benchStart(b, startOurs) })
	b.Run("bare", func(b *testing.B) { benchStart(b, startBare) })
}

func benchStart(b *testing.B, start func(context.Context, *node, string) error) {
	n := newNode(b)
	b.Cleanup(func() { _ = n.cgroups.remove("/" + n.cfg.Namespace) }) // where the bare client's are
	for b.Loop() {
		begin := time.Now()
		var first time.Duration
		var group errgroup.Group
		group.SetLimit(benchWorkers)
		for i := range benchPods {
			group.Go(func() error {
				err := start(b.Context(), n, fmt.Sprintf("pod%d", i))
				if i == 0 {
					first = time.Since(begin)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(first.Seconds()*1000, "first-ms")
		b.StopTimer()
		if err := n.removeContainers(n.scope(b.Context())); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func startOurs(ctx context.Context, n *node, pod string) error {
	return n.Start(ctx, n.container(pod, "main", "sleep"))
}

// startBare is what containerd's own examples do.
func startBare(ctx context.Context, n *node, pod string) error {
	ctx = namespaces.WithNamespace(ctx, n.cfg.Namespace)
	img, err := n.client.GetImage(ctx, toolRef)
	if err != nil {
		return err
	}
	c, err := n.client.NewContainer(ctx, pod, client.WithSnapshotter(n.Runtime.cfg.Snapshotter), client.WithNewSnapshot(pod, img),
		client.WithNewSpec(oci.WithImageConfig(img), oci.WithProcessArgs("/tool", "sleep")))
	if err != nil {
		return err
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return err
	}
	return task.Start(ctx)
}
