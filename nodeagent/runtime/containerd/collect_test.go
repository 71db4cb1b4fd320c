package containerd

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-cmp/cmp"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

// What an image leaves when it is removed is collected, but for what a
// container still uses.
func TestRemoveImage(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	ref := refAt(h.Serve(t, registry.Through))
	tag := strings.TrimSuffix(ref, "1") + "2"
	h.Push(t, "lamp/tool", "2", daemon.image)
	if err := n.RemoveImage(t.Context(), n.theImage().ID); err != nil {
		t.Fatal(err) // the one that newNode loaded
	}
	for _, ref := range []string{ref, tag} {
		if _, err := n.Pull(t.Context(), ref, rt.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	stored := n.theImage()
	if diff := cmp.Diff(rt.StoredImage{ID: stored.ID, Size: stored.Size, Refs: []string{ref, tag}}, stored); diff != "" || stored.Size == 0 {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	c := n.container("p1", "main", "sleep")
	c.Image = ref
	n.start(c)
	img, release, err := n.heldImage(n.scope(t.Context()), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveImage(t.Context(), stored.ID); !errors.Is(err, rt.ErrImageInUse) {
		t.Errorf("while it is being started: %v", err)
	}
	release()
	if err := n.RemoveImage(t.Context(), stored.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := n.blobs(); len(left) > 0 {
		t.Errorf("content left: %v", left)
	}
	if s := n.status(c.ID); s.State != rt.Running {
		t.Errorf("its container is %v", s.State)
	}
	if code, _, err := n.Exec(t.Context(), c.ID, []string{"/tool", "exit", "3"}, 100); err != nil || code != 3 {
		t.Errorf("its container's files: %d, %v", code, err)
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.client.SnapshotService(n.Runtime.cfg.Snapshotter).Stat(n.scope(t.Context()), img.chain); !gone(err) {
		t.Errorf("its snapshot: %v", err)
	}
	if err := n.RemoveImage(t.Context(), stored.ID); err != nil {
		t.Errorf("again: %v", err)
	}
}

// theImage is the only one there is.
func (n *node) theImage() rt.StoredImage {
	n.t.Helper()
	list, err := n.Images(n.t.Context())
	if err != nil || len(list) != 1 {
		n.t.Fatalf("images are %+v, %v", list, err)
	}
	return list[0]
}

func (n *node) blobs() (digests []string) {
	n.t.Helper()
	if err := n.client.ContentStore().Walk(n.scope(n.t.Context()), func(info content.Info) error {
		digests = append(digests, info.Digest.String())
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return digests
}

// An image that is removed while containers of it are started is either still
// there for a start, or is said to be missing: a start never gets half of it.
func TestRemovalAgainstStarts(t *testing.T) {
	n := newNode(t)
	ref := refAt(newHub(t).Serve(t, registry.Through))
	img, err := n.Pull(t.Context(), ref, rt.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var starts, missing, removed int
	stop := make(chan struct{})
	var removing sync.WaitGroup
	removing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := n.RemoveImage(t.Context(), img.ID)
			if err == nil {
				removed++
				err = n.Collect(t.Context())
			}
			if err != nil && !errors.Is(err, rt.ErrImageInUse) {
				t.Error(err)
			}
		}
	})
	for i := range 40 {
		if _, err := n.Pull(t.Context(), ref, rt.PullOptions{}); err != nil {
			if !errors.Is(err, rt.ErrImageNotFound) && !errors.Is(err, rt.ErrNotFound) {
				t.Error(err)
			}
			continue
		}
		c := n.container("p1", "c"+strconv.Itoa(i), "exit", "0")
		c.Image = ref
		switch err := n.Start(t.Context(), c); {
		case err == nil:
			starts++
			if err := n.Remove(t.Context(), c.ID); err != nil {
				t.Error(err)
			}
		case errors.Is(err, rt.ErrImageNotFound):
			missing++
		default:
			t.Errorf("start %d: %v", i, err)
		}
	}
	close(stop)
	removing.Wait()
	t.Logf("%d starts, %d found no image, %d removals", starts, missing, removed)
	if starts == 0 || removed == 0 {
		t.Error("nothing was raced")
	}
}
