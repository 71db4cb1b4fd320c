// Package registry serves container images on loopback to the tests of whoever
// pulls them, and tells what was asked of it. A test may answer in its stead:
// late, wrongly or only to those with a password. Only tests import it.
package registry

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Registry holds images in memory, and gives and takes them as the OCI
// distribution specification has it. It is safe for concurrent use.
type Registry struct {
	images http.Handler

	mu       sync.Mutex
	requests []string
}

// New returns a Registry that holds nothing.
func New() *Registry {
	return &Registry{images: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

// ServeHTTP answers from what the registry holds, to whatever server a test has.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.note(req)
	r.images.ServeHTTP(w, req)
}

// Between answers a request, or has next do it: the registry.
type Between func(w http.ResponseWriter, req *http.Request, next http.Handler)

// Through leaves every answer to the registry.
func Through(w http.ResponseWriter, req *http.Request, next http.Handler) { next.ServeHTTP(w, req) }

// Basic answers nobody but the user keeper with the password light.
func Basic(w http.ResponseWriter, req *http.Request, next http.Handler) {
	if user, password, _ := req.BasicAuth(); user != "keeper" || password != "light" {
		w.Header().Set("WWW-Authenticate", `Basic realm="lamps"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, req)
}

// Serve serves the registry over plain HTTP until the test ends.
func (r *Registry) Serve(t testing.TB, between Between) *httptest.Server {
	server := r.unstarted(t, between)
	server.Start()
	return server
}

// ServeTLS is Serve over TLS, of an authority that nobody knows. The
// configuration may be nil; the server's own certificate is added to it.
func (r *Registry) ServeTLS(t testing.TB, between Between, config *tls.Config) *httptest.Server {
	server := r.unstarted(t, between)
	server.TLS = config
	server.StartTLS()
	return server
}

func (r *Registry) unstarted(t testing.TB, between Between) *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.note(req)
		between(w, req, r.images)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	return server
}

func (r *Registry) note(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path+" "+req.Header.Get("Range"))
}

// Seen lists the requests to all servers, each as "GET /v2/… bytes=…", that
// hold a text.
func (r *Registry) Seen(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.requests), func(line string) bool { return !strings.Contains(line, text) })
}

// Whole is the answer to a request as if it asked for no range: the registry
// does not know the open ranges with which a pull is taken up again.
func (r *Registry) Whole(req *http.Request) *httptest.ResponseRecorder {
	whole := req.Clone(req.Context())
	whole.Header.Del("Range")
	answer := httptest.NewRecorder()
	r.images.ServeHTTP(answer, whole)
	return answer
}

// Push puts an image into the registry and returns its digest. It is not Seen.
func (r *Registry) Push(t testing.TB, repository, tag string, img v1.Image) (digest string) {
	t.Helper()
	layers, layersErr := img.Layers()
	manifest, manifestErr := img.Manifest()
	config, configErr := img.RawConfigFile()
	raw, rawErr := img.RawManifest()
	sum, sumErr := img.Digest()
	if err := errors.Join(layersErr, manifestErr, configErr, rawErr, sumErr); err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		blob, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		r.pushBlob(t, repository, manifest.Layers[i].Digest, blob)
	}
	r.pushBlob(t, repository, manifest.Config.Digest, bytes.NewReader(config))
	r.upload(t, http.MethodPut, repository+"/manifests/"+tag, string(manifest.MediaType), bytes.NewReader(raw))
	return sum.String()
}

func (r *Registry) pushBlob(t testing.TB, repository string, digest v1.Hash, blob io.Reader) {
	t.Helper()
	r.upload(t, http.MethodPost, repository+"/blobs/uploads/?digest="+digest.String(), "application/octet-stream", blob)
}

func (r *Registry) upload(t testing.TB, method, path, mediaType string, body io.Reader) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/v2/"+path, body)
	req.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	r.images.ServeHTTP(answer, req)
	if answer.Code != http.StatusCreated {
		t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}
