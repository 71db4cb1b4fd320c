package containerd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/registry"
)

// tokenAuth is Docker's: the credentials buy a token at another address.
func tokenAuth(w http.ResponseWriter, req *http.Request, next http.Handler) {
	if req.URL.Path == "/token" {
		registry.Basic(w, req, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"token": "beam", "expires_in": 60})
		}))
		return
	}
	if req.Header.Get("Authorization") != "Bearer beam" {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q,scope=%q", "http://"+req.Host+"/token", "lamps", "repository:lamp/tool:pull"))
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	next.ServeHTTP(w, req)
}

func TestPullWithCredentials(t *testing.T) {
	right := rt.Credential{Username: "keeper", Password: "light", Keys: []string{"right"}}
	wrong := rt.Credential{Username: "keeper", Password: "dark", Keys: []string{"wrong"}}
	for name, auth := range map[string]registry.Between{"basic": registry.Basic, "token": tokenAuth} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			ref := refAt(newHub(t).Serve(t, auth))
			for _, tc := range []struct {
				name        string
				credentials []rt.Credential
				want        string
			}{
				{"nobody's", nil, "name a secret that has them in the pod's imagePullSecrets"},
				{"wrong", []rt.Credential{wrong}, "check the pod's imagePullSecrets"},
			} {
				_, err := n.Pull(t.Context(), ref, rt.PullOptions{Credentials: tc.credentials})
				if !errors.Is(err, rt.ErrImagePull) || !strings.Contains(fmt.Sprint(err), tc.want) {
					t.Errorf("%s: %v", tc.name, err)
				}
			}
			got, err := n.Pull(t.Context(), ref, rt.PullOptions{Credentials: []rt.Credential{wrong, right}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rt.Access{Keys: []string{"right"}}, got.Access); diff != "" {
				t.Errorf("access (-want +got):\n%s", diff)
			}
			other := right
			other.Keys = []string{"other"}
			if _, err := n.Pull(t.Context(), ref, rt.PullOptions{Credentials: []rt.Credential{other}}); err != nil {
				t.Fatal(err)
			}
			if got, err = n.Image(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rt.Access{Keys: []string{"other", "right"}}, got.Access); diff != "" {
				t.Errorf("access after a second pull (-want +got):\n%s", diff)
			}
		})
	}
}

// A registry that nobody can reach by its name is mirrored, over TLS with an
// authority of its own that wants a certificate from its clients.
func TestPullFromMirror(t *testing.T) {
	h := newHub(t)
	mirror := h.ServeTLS(t, registry.Through, &tls.Config{ClientAuth: tls.RequireAnyClientCert})
	dir := t.TempDir()
	cert := mirror.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mirror.Certificate().Raw})))
	writeFile(t, filepath.Join(dir, "client.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	writeFile(t, filepath.Join(dir, "client.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	toml := func(host, lines string) {
		writeFile(t, filepath.Join(dir, host, "hosts.toml"), fmt.Sprintf("server = \"https://%s\"\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n%s", host, mirror.URL, lines))
	}
	client := fmt.Sprintf("client = [[%q, %q]]\n", filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
	toml("lamps.invalid", fmt.Sprintf("ca = %q\n", filepath.Join(dir, "ca.pem"))+client)
	toml("unverified.invalid", "skip_verify = true\n"+client)
	toml("stranger.invalid", client)
	n := newNode(t, func(c *Config) { c.RegistryDir = dir })
	for _, name := range []string{"lamps.invalid", "unverified.invalid"} {
		got, err := n.Pull(t.Context(), name+"/lamp/tool:1", rt.PullOptions{})
		if err != nil || got.Ref != name+"/lamp/tool:1" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := n.Pull(t.Context(), "stranger.invalid/lamp/tool:1", rt.PullOptions{}); !errors.Is(err, rt.ErrImagePull) {
		t.Errorf("a mirror of an unknown authority: %v", err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// An image that is present is looked up in the registry and not fetched again.
func TestPullPresent(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	ref := refAt(h.Serve(t, registry.Through))
	var last rt.Progress
	for range 2 {
		if _, err := n.Pull(t.Context(), ref, rt.PullOptions{Progress: func(p rt.Progress) {
			if p.Done < last.Done && p.Total == last.Total {
				t.Errorf("progress went back from %+v to %+v", last, p)
			}
			last = p
		}}); err != nil {
			t.Fatal(err)
		}
		if last.Queued || last.Total == 0 || last.Done != last.Total {
			t.Errorf("at the end %+v", last)
		}
	}
	layers, _ := daemon.image.Layers()
	if got, want := len(h.Seen("GET /v2/lamp/tool/blobs/")), len(layers)+1; got > want {
		t.Errorf("%d blobs fetched by two pulls, want at most %d", got, want)
	}
	digest, _ := daemon.image.Digest()
	pinned := strings.TrimSuffix(ref, ":1") + "@" + digest.String()
	if got, err := n.Pull(t.Context(), pinned, rt.PullOptions{}); err != nil || got.Digest != pinned {
		t.Errorf("by digest: %+v, %v", got, err)
	}
	wrong := strings.TrimSuffix(ref, ":1") + "@sha256:" + strings.Repeat("0", 64)
	if _, err := n.Pull(t.Context(), wrong, rt.PullOptions{}); !errors.Is(err, rt.ErrImagePull) {
		t.Errorf("a digest that is not there: %v", err)
	}
}

// fault is what a registry does wrong with the image's layer.
type fault func(w http.ResponseWriter, blob []byte)

func breakOff(w http.ResponseWriter, blob []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	_, _ = w.Write(blob[:len(blob)/2])
	panic(http.ErrAbortHandler)
}

func falsify(w http.ResponseWriter, blob []byte) {
	blob[len(blob)/2] ^= 1
	_, _ = w.Write(blob)
}

// What a registry does wrong is said, and a pull after it succeeds: from where
// it broke off, or from the start where what came is of no use.
func TestPullBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  fault
		want   string
		resume bool
	}{
		"short":        {breakOff, "broke off", true},
		"wrong digest": {falsify, "is not what its manifest names", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			h := newHub(t)
			path := pushLayer(t, h, 4<<20)
			var mu sync.Mutex
			broken := true
			server := h.Serve(t, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				mu.Lock()
				defer mu.Unlock()
				if req.Method != http.MethodGet || req.URL.Path != path {
					next.ServeHTTP(w, req)
					return
				}
				ranged := req.Header.Get("Range") != ""
				if broken && ranged {
					panic(http.ErrAbortHandler)
				}
				blob := h.Whole(req).Body.Bytes()
				if broken {
					tc.fault(w, blob)
					return
				}
				http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(blob))
			})
			_, err := n.Pull(t.Context(), refAt(server), rt.PullOptions{})
			if !errors.Is(err, rt.ErrImagePull) || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Fatalf("got %v", err)
			}
			mu.Lock()
			broken = false
			mu.Unlock()
			before := len(h.Seen("GET " + path + " bytes="))
			if _, err := n.Pull(t.Context(), refAt(server), rt.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if resumed := len(h.Seen("GET "+path+" bytes=")) > before; resumed != tc.resume {
				t.Errorf("resumed is %v: %q", resumed, h.Seen(""))
			}
		})
	}
}

// One pull at a time: the second says that it waits.
func TestPullsInTurn(t *testing.T) {
	n := newNode(t, func(c *Config) { c.MaxParallelPulls = 1 })
	h := newHub(t)
	h.Push(t, "lamp/tool", "2", daemon.image)
	arrived, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	server := h.Serve(t, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.HasSuffix(req.URL.Path, "/manifests/1") {
			once.Do(func() { close(arrived) })
			<-gate
		}
		next.ServeHTTP(w, req)
	})
	ref := refAt(server)
	var pulls sync.WaitGroup
	defer pulls.Wait()
	pulls.Go(func() {
		if _, err := n.Pull(t.Context(), ref, rt.PullOptions{}); err != nil {
			t.Error(err)
		}
	})
	<-arrived
	queued := make(chan struct{})
	var said sync.Once
	pulls.Go(func() {
		if _, err := n.Pull(t.Context(), strings.TrimSuffix(ref, "1")+"2", rt.PullOptions{Progress: func(p rt.Progress) {
			if p.Queued {
				said.Do(func() { close(queued) })
			}
		}}); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-queued:
	case <-time.After(time.Minute):
		t.Error("the second pull never waited")
	}
	if len(h.Seen("/manifests/2")) > 0 {
		t.Error("two pulls at once")
	}
	close(gate)
}

// A pull that fills the disk says so, and leaves nothing there.
func TestPullFillsDisk(t *testing.T) {
	need(t)
	dir := filepath.Join(daemon.dir, "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	address, err := StartPrivate(t.Context(), PrivateConfig{Dir: filepath.Join(dir, "c"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := StopPrivate(context.Background(), filepath.Join(dir, "c")); err != nil {
			t.Error(err)
		}
	})
	n := newNode(t, func(c *Config) { c.Address = address })
	h := newHub(t)
	pushLayer(t, h, 32<<20)
	_, err = n.Pull(t.Context(), refAt(h.Serve(t, registry.Through)), rt.PullOptions{})
	if !errors.Is(err, rt.ErrImagePull) || !errors.Is(err, rt.ErrNoSpace) || !strings.Contains(fmt.Sprint(err), "free space") {
		t.Fatalf("got %v", err)
	}
	if left := filesOver(t, dir, 1<<20, "ingest"); len(left) > 0 {
		t.Errorf("left of it: %v", left)
	}
}

// filesOver lists files of at least a size whose path holds a text.
func filesOver(t *testing.T, dir string, size int64, text string) (found []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, text) {
			return err
		}
		if info, err := entry.Info(); err == nil && info.Size() >= size {
			found = append(found, path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// A layer that is what the manifest names and yet no archive is said to be
// broken, and does not stay.
func TestPullBrokenLayer(t *testing.T) {
	n := newNode(t)
	h := newHub(t)
	layer := static.NewLayer([]byte("no archive"), types.DockerLayer)
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	h.Push(t, "lamp/tool", "1", img)
	_, err = n.Pull(t.Context(), refAt(h.Serve(t, registry.Through)), rt.PullOptions{})
	if !errors.Is(err, rt.ErrImagePull) || !strings.Contains(fmt.Sprint(err), "a layer of it is broken") {
		t.Errorf("got %v", err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(n.blobs(), digest.String()) {
		t.Error("the layer is left")
	}
}
