package containerd

import (
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

func TestPull(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	h.Push(t, "lamp/tool", "2", daemon.image)
	host := strings.TrimPrefix(h.Serve(t, registry.Through).URL, "http://")
	ref := host + "/lamp/tool:2"
	if _, err := n.Image(t.Context(), ref); !errors.Is(err, rt.ErrImageNotFound) {
		t.Errorf("before the pull: %v", err)
	}
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := n.Pull(t.Context(), ref, rt.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := h.Seen("GET /v2/lamp/tool/manifests/"); len(got) > 1 {
		t.Errorf("%d manifests fetched for 8 pulls at once", len(got))
	}
	got, err := n.Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := daemon.image.ConfigName()
	digest, _ := daemon.image.Digest()
	want := rt.Image{
		Ref: ref, ID: id.String(), Digest: strings.TrimSuffix(ref, ":2") + "@" + digest.String(), Size: got.Size,
		Entrypoint: []string{"/tool"}, Env: []string{"PATH=/", "LIGHT=on"}, WorkingDir: "/", User: "keeper",
		Access: rt.Access{Anybody: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	c := n.container("p1", "main", "exit", "0")
	c.Image = ref
	n.start(c)
	if got := n.await(c.ID, "exited", exited); got.ExitCode != 0 || got.Image != ref {
		t.Errorf("container of a pulled image is %+v", got)
	}
	for name, ref := range map[string]string{
		"not there": host + "/lamp/none:1", "nobody there": "127.0.0.1:1/lamp/tool:1",
	} {
		if _, err := n.Pull(t.Context(), ref, rt.PullOptions{}); !errors.Is(err, rt.ErrImagePull) || errors.Is(err, rt.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.Pull(t.Context(), "Not//Good", rt.PullOptions{}); !errors.Is(err, rt.ErrInvalidImage) {
		t.Errorf("bad reference: %v", err)
	}
}

func TestImport(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	docker := filepath.Join(dir, "docker.tar")
	if err := images.Save(daemon.image, "lamp:3", docker); err != nil {
		t.Fatal(err)
	}
	ociArchive(t, filepath.Join(dir, "oci.tar"), "evenkeel.io/lamp:4")
	ociArchive(t, filepath.Join(dir, "lantern.tar"), "latest")
	squeeze(t, docker, filepath.Join(dir, "docker.tar.gz"))
	if err := os.WriteFile(filepath.Join(dir, "garbage"), []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"docker.tar":    "docker.io/library/lamp:3",
		"docker.tar.gz": "docker.io/library/lamp:3",
		"oci.tar":       "evenkeel.io/lamp:4",
		"lantern.tar":   "docker.io/library/lantern:latest",
	} {
		refs, err := n.Import(t.Context(), filepath.Join(dir, file))
		if err != nil || !slices.Equal(refs, []string{want}) {
			t.Errorf("%s: got %v, %v", file, refs, err)
			continue
		}
		img, err := n.Image(t.Context(), want)
		if err != nil || img.User != "keeper" || img.Digest != "" {
			t.Errorf("%s: image is %+v, %v", file, img, err)
		}
	}
	if _, err := n.Import(t.Context(), filepath.Join(dir, "garbage")); err == nil {
		t.Error("garbage was imported")
	}
	if _, err := n.Image(t.Context(), "lamp:3"); err != nil {
		t.Errorf("short name: %v", err)
	}
}

// An image whose snapshot has gone is unpacked again, also when the Runtime
// has seen it unpacked before.
func TestSnapshotLost(t *testing.T) {
	n := newNode(t)
	img, err := n.localImage(n.scope(t.Context()), toolRef)
	if err != nil {
		t.Fatal(err)
	}
	lose := func() {
		t.Helper()
		if err := n.client.SnapshotService(n.Runtime.cfg.Snapshotter).Remove(n.scope(t.Context()), img.chain); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	c := n.start(n.container("p1", "main", "exit", "0"))
	n.await(c.ID, "exited", exited)
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	lose()
	n.open()
	if _, err := n.Image(t.Context(), toolRef); err != nil {
		t.Fatal(err)
	}
	if !n.images.isUnpacked(img.chain) {
		t.Error("image was not unpacked")
	}
}

func ociArchive(t *testing.T, out, refName string) {
	t.Helper()
	dir := t.TempDir()
	annotated := mutate.IndexAddendum{Add: daemon.image}
	annotated.Annotations = map[string]string{"org.opencontainers.image.ref.name": refName}
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, annotated)); err != nil {
		t.Fatal(err)
	}
	tarDirectory(t, dir, out)
}

func squeeze(t *testing.T, in, out string) {
	t.Helper()
	data, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := gzip.NewWriter(file)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
