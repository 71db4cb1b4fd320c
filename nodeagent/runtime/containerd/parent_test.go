package containerd

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

// TestPullBesideCollection removes an image while one is pulled that has the
// same first layer: it is there when the pull looks, and may be gone when the
// next layer is built upon it.
func TestPullBesideCollection(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	deep := daemon.image
	for range 3 {
		layer, err := random.Layer(1<<16, "application/vnd.docker.image.rootfs.diff.tar.gzip")
		if err != nil {
			t.Fatal(err)
		}
		if deep, err = mutate.AppendLayers(deep, layer); err != nil {
			t.Fatal(err)
		}
	}
	h.Push(t, "lamp/deep", "1", deep)
	flat := refAt(h.Serve(t, registry.Through))
	for range 40 {
		first, err := n.Pull(t.Context(), flat, rt.PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var removal sync.WaitGroup
		removal.Go(func() {
			if err := n.RemoveImage(t.Context(), first.ID); err != nil {
				t.Error(err)
			}
		})
		second, err := n.Pull(t.Context(), strings.Replace(flat, "lamp/tool", "lamp/deep", 1), rt.PullOptions{})
		removal.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.RemoveImage(t.Context(), second.ID); err != nil {
			t.Fatal(err)
		}
	}
}
