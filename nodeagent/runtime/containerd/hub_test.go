package containerd

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

// hub is a registry on loopback that holds lamp/tool:1, and the tests' hand on
// what it answers.
type hub struct {
	handler http.Handler
	plain   *httptest.Server // nothing in between

	mu       sync.Mutex
	requests []string
}

func newHub(t *testing.T) *hub {
	t.Helper()
	need(t)
	h := &hub{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	h.plain = httptest.NewServer(h.handler)
	t.Cleanup(h.plain.Close)
	push(t, h.plain.URL+"/v2/lamp/tool", "1")
	return h
}

// behind serves the registry through something that may answer for it.
func (h *hub) behind(t *testing.T, between func(w http.ResponseWriter, req *http.Request, next http.Handler), options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, req.Method+" "+req.URL.Path+" "+req.Header.Get("Range"))
		h.mu.Unlock()
		between(w, req, h.handler)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start := (*httptest.Server).Start
	if len(options) > 0 {
		start = (*httptest.Server).StartTLS
	}
	for _, o := range options {
		o(server)
	}
	start(server)
	t.Cleanup(server.Close)
	return server
}

// seen counts the requests whose line holds a text.
func (h *hub) seen(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.requests {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func through(w http.ResponseWriter, req *http.Request, next http.Handler) { next.ServeHTTP(w, req) }

func refAt(server *httptest.Server) string {
	_, host, _ := strings.Cut(server.URL, "://")
	return host + "/lamp/tool:1"
}

// pushLayer puts an image into the registry that nobody has yet, and returns
// the request for its only layer.
func (h *hub) pushLayer(t *testing.T, size int64) (path string) {
	t.Helper()
	img, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	pushImage(t, img, h.plain.URL+"/v2/lamp/tool", "1")
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

// blob is what the registry would send whole: it does not know the open ranges
// with which a transfer is taken up again.
func (h *hub) blob(req *http.Request) []byte {
	whole := req.Clone(req.Context())
	whole.Header.Del("Range")
	answer := httptest.NewRecorder()
	h.handler.ServeHTTP(answer, whole)
	return answer.Body.Bytes()
}
