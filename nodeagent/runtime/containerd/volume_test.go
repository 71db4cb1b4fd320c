package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

// An image that is mounted stays readable, and cannot be written to, when its
// references and the rest of what is not used have gone; released, it goes.
func TestImageMount(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	layer, err := random.Layer(1<<16, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	deep, err := mutate.AppendLayers(daemon.image, layer)
	if err != nil {
		t.Fatal(err)
	}
	h.Push(t, "lamp/deep", "1", deep)
	flat := refAt(h.Serve(t, registry.Through))
	for name, ref := range map[string]string{"of one layer": flat, "of two": strings.Replace(flat, "lamp/tool", "lamp/deep", 1)} {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Fatal(err)
			}
			m := rt.ImageMount{PodUID: "p1", Volume: "v", Image: ref, Target: target}
			if err := n.MountImage(t.Context(), m); !errors.Is(err, rt.ErrImageNotFound) {
				t.Errorf("before the pull: %v", err)
			}
			img, err := n.Pull(t.Context(), ref, rt.PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time as after a crash between the view and its mount
				if err := n.MountImage(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Unmount(target, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(n.MountImage(t.Context(), m), n.RemoveImage(t.Context(), img.ID), n.Collect(t.Context())); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(filepath.Join(target, "tool")); err != nil || info.Size() < 1<<20 {
				t.Errorf("its files: %v, %v", info, err)
			}
			if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
				t.Errorf("written to: %v", err)
			}
			n.open()
			if err := errors.Join(n.ReleaseImages(t.Context(), "p2"), syscall.Unmount(target, 0)); err != nil {
				t.Fatal(err)
			}
			if got := n.views(); len(got) != 1 {
				t.Errorf("another pod's were released: %v", got)
			}
			if err := n.ReleaseImages(t.Context(), "p1"); err != nil {
				t.Fatal(err)
			}
			if left := n.views(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func (n *node) views() (names []string) {
	n.t.Helper()
	store := n.client.SnapshotService(n.Runtime.cfg.Snapshotter)
	if err := store.Walk(n.scope(n.t.Context()), func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindView {
			names = append(names, info.Name)
		}
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return names
}
