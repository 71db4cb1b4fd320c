package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hub is the name by which pods know the shelf: nobody but the node's registry
// configuration knows where it is.
const hub = "lamps.invalid"

// shelf is a registry on loopback, behind TLS of an authority of its own. What
// is below private/ wants a name and a password.
type shelf struct {
	handler http.Handler
	server  *httptest.Server

	mu       sync.Mutex
	requests []string
	held     map[string]*hold // by what is in the path of a GET
}

// hold stops an answer after some bytes.
type hold struct {
	after int
	goOn  chan struct{}
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), held: map[string]*hold{}}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

// configure writes where the shelf is, as containerd's certs.d has it.
func (s *shelf) configure(t *testing.T, dir string) {
	t.Helper()
	at := filepath.Join(dir, hub)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	for name, text := range map[string]string{
		"ca.pem":     string(authority),
		"hosts.toml": fmt.Sprintf("server = \"https://%s\"\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\nca = %q\n", hub, s.server.URL, at+"/ca.pem"),
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
	var held *hold
	for part, h := range s.held {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, part) {
			held = h
		}
	}
	s.mu.Unlock()
	user, password, _ := r.BasicAuth()
	switch {
	case strings.HasPrefix(r.URL.Path, "/v2/private/") && (user != "keeper" || password != "light"):
		w.Header().Set("WWW-Authenticate", `Basic realm="lamps"`)
		http.Error(w, "who are you", http.StatusUnauthorized)
	case held != nil:
		held.serve(w, r, s.answer(r))
	default:
		s.handler.ServeHTTP(w, r)
	}
}

// answer is what the registry would send whole: it does not know the open
// ranges with which a pull is taken up again.
func (s *shelf) answer(r *http.Request) *httptest.ResponseRecorder {
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, whole)
	return answer
}

func (h *hold) serve(w http.ResponseWriter, r *http.Request, answer *httptest.ResponseRecorder) {
	body := answer.Body.Bytes()
	select {
	case <-h.goOn:
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	default:
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body[:h.after])
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
	case <-h.goOn:
		_, _ = w.Write(body[h.after:])
	}
}

// hold stops answers to GETs with something in their path after some bytes,
// until goOn is called.
func (s *shelf) hold(t *testing.T, part string, after int) (goOn func()) {
	h := &hold{after: after, goOn: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[part] = h
	goOn = sync.OnceFunc(func() { close(h.goOn) })
	t.Cleanup(goOn)
	return goOn
}

// seen lists the requests whose line holds a text.
func (s *shelf) seen(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(line string) bool { return !strings.Contains(line, text) })
}

// push puts an image on the shelf and returns its digest.
func (s *shelf) push(t *testing.T, repository, tag string, img v1.Image) (digest string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		sum, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		s.upload(t, http.MethodPost, repository+"/blobs/uploads/?digest="+sum.String(), "application/octet-stream", blob)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.upload(t, http.MethodPost, repository+"/blobs/uploads/?digest="+manifest.Config.Digest.String(), "application/octet-stream", bytes.NewReader(config))
	s.upload(t, http.MethodPut, repository+"/manifests/"+tag, string(manifest.MediaType), bytes.NewReader(raw))
	return sum.String()
}

func (s *shelf) upload(t *testing.T, method, path, mediaType string, body io.Reader) {
	t.Helper()
	request := httptest.NewRequest(method, "/v2/"+path, body)
	request.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	s.handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}

// keys is a pull secret for the shelf.
func keys(name, password string) *corev1.Secret {
	auth := base64.StdEncoding.EncodeToString([]byte("keeper:" + password))
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-of-" + "secret"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, hub, auth)},
	}
}
