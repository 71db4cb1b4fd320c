package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/testdata/registry"
)

// hub is the name by which pods know the shelf: nobody but the node's registry
// configuration knows where it is.
const hub = "lamps.invalid"

// shelf is a registry on loopback, behind TLS of an authority of its own. What
// is below private/ wants a name and a password.
type shelf struct {
	*registry.Registry
	server *httptest.Server

	mu   sync.Mutex
	held map[string]*hold // by what is in the path of a GET
}

// hold stops an answer after some bytes.
type hold struct {
	after int
	goOn  chan struct{}
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{Registry: registry.New(), held: map[string]*hold{}}
	s.server = s.ServeTLS(t, s.answer, nil)
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

func (s *shelf) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	held := s.heldAt(r)
	switch {
	case strings.HasPrefix(r.URL.Path, "/v2/private/"):
		registry.Basic(w, r, next)
	case held != nil:
		held.serve(w, r, s.Whole(r))
	default:
		next.ServeHTTP(w, r)
	}
}

func (s *shelf) heldAt(r *http.Request) (held *hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for part, h := range s.held {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, part) {
			held = h
		}
	}
	return held
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

// keys is a pull secret for the shelf.
func keys(name, password string) *corev1.Secret {
	auth := base64.StdEncoding.EncodeToString([]byte("keeper:" + password))
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-of-" + "secret"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, hub, auth)},
	}
}
