package containerd

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/evenkeel/evenkeel/testdata/registry"
)

// newHub is a registry that holds lamp/tool:1.
func newHub(t *testing.T) *registry.Registry {
	t.Helper()
	need(t)
	h := registry.New()
	h.Push(t, "lamp/tool", "1", daemon.image)
	return h
}

func refAt(server *httptest.Server) string {
	_, host, _ := strings.Cut(server.URL, "://")
	return host + "/lamp/tool:1"
}

// pushLayer puts an image into a registry, as lamp/tool:1, that nobody has
// yet, and returns the path of the request for its only layer.
func pushLayer(t *testing.T, h *registry.Registry, size int64) (path string) {
	t.Helper()
	img, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	h.Push(t, "lamp/tool", "1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return "/v2/lamp/tool/blobs/" + digest.String()
}
