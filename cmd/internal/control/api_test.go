package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// oneFile is a git source of one file that never changes.
type oneFile struct{ text string }

func (oneFile) Name() string { return "ops" }

func (f oneFile) Snapshot(context.Context) (manifests.Snapshot, error) {
	return manifests.Snapshot{
		Source: "ops", Location: "https://example.org/ops.git", Revision: strings.Repeat("3f9c2e1", 6), Tree: "t",
		Commit: &manifests.Commit{ID: strings.Repeat("3f9c2e1", 6), Author: "Ann", Subject: "first"},
		Files:  []manifests.File{{Path: "apps/conf.yaml", Hash: "h", Read: func() ([]byte, error) { return []byte(f.text), nil }}},
	}, nil
}

func (oneFile) Watch(ctx context.Context, changed func()) error {
	changed()
	<-ctx.Done()
	return nil
}

// apiWorld is a control plane with its API.
type apiWorld struct {
	t     *testing.T
	store registry.Store
	dir   string
	url   string
	admin *http.Client
}

func serveAPI(t *testing.T, change func(*Config)) *apiWorld {
	t.Helper()
	w := &apiWorld{t: t, store: memory.New(), dir: t.TempDir()}
	cfg := Config{
		Flags: Flags{
			PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/16",
			API: APIFlags{Address: "127.0.0.1:0", Writes: "allow"},
		},
		Sources: []manifests.Source{oneFile{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: default}\ndata: {key: \"1\"}\n"}},
		Store:   w.store, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), DataDir: w.dir,
	}
	change(&cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.eventually("an API server is registered", func() error {
		kvs, _, err := w.store.List(t.Context(), schema.APIServersPrefix, 0)
		if err != nil || len(kvs) == 0 {
			return fmt.Errorf("%d servers, %v", len(kvs), err)
		}
		server, err := apiservice.ParseServer(kvs[0])
		w.url = server.URL
		return err
	})
	w.admin = w.client(pki.Admin)
	w.eventually("it is ready", func() error {
		code, _, body := w.do(w.admin, http.MethodGet, "/readyz", "")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	return w
}

func (w *apiWorld) eventually(what string, check func() error) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *apiWorld) client(who pki.Subject) *http.Client {
	w.t.Helper()
	authority, err := pki.Open(w.t.Context(), w.store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := authority.Issue(who, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.Bundle())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func (w *apiWorld) do(client *http.Client, method, path, body string) (code int, warnings, answer string) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewBufferString(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	response, err := client.Do(req)
	if err != nil {
		return 0, "", err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, strings.Join(response.Header.Values("Warning"), "\n"), string(text)
}

const confPath = "/api/v1/namespaces/default/configmaps/conf"

func (w *apiWorld) conf() *corev1.ConfigMap {
	w.t.Helper()
	cm := &corev1.ConfigMap{}
	w.eventually("the config map", func() error {
		code, _, body := w.do(w.admin, http.MethodGet, confPath, "")
		if code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		*cm = corev1.ConfigMap{}
		return json.Unmarshal([]byte(body), cm)
	})
	return cm
}

// TestWritesArePutBack changes through the API what a source declares.
func TestWritesArePutBack(t *testing.T) {
	w := serveAPI(t, func(*Config) {})
	before := w.conf()
	if got := before.Annotations[schema.FileAnnotation]; got != "apps/conf.yaml:1" {
		t.Errorf("it is from %q", got)
	}
	code, warnings, _ := w.do(w.admin, http.MethodPatch, confPath, `{"data":{"key":"2","other":"kept"}}`)
	if want := "apps/conf.yaml:1 at 3f9c2e1 owns data.key; it will be put back"; code != http.StatusOK || !strings.Contains(warnings, want) {
		t.Errorf("%d, warned of %q", code, warnings)
	}
	w.eventually("put back", func() error {
		if data := w.conf().Data; data["key"] != "1" || data["other"] != "kept" {
			return fmt.Errorf("%v", data)
		}
		return nil
	})
	if code, warnings, _ := w.do(w.admin, http.MethodPatch, confPath, `{"data":{"other":"changed"}}`); code != http.StatusOK || warnings != "" {
		t.Errorf("what no source declares: %d, warned of %q", code, warnings)
	}
	code, warnings, _ = w.do(w.admin, http.MethodDelete, confPath, "")
	if code != http.StatusOK || !strings.Contains(warnings, "owns configmap/conf; it will be made again") {
		t.Errorf("deleted: %d, warned of %q", code, warnings)
	}
	w.eventually("made again", func() error {
		if uid := w.conf().UID; uid == before.UID {
			return fmt.Errorf("still %s", uid)
		}
		return nil
	})
}

func TestWritesAreDenied(t *testing.T) {
	w := serveAPI(t, func(cfg *Config) { cfg.API.Writes = "deny" })
	before := w.conf().ResourceVersion
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{http.MethodPatch, confPath, `{"data":{"key":"2"}}`, http.StatusForbidden},
		{http.MethodDelete, confPath, "", http.StatusForbidden},
	} {
		if code, _, body := w.do(w.admin, c.method, c.path, c.body); code != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.body, code, body)
		}
	}
	if after := w.conf().ResourceVersion; after != before {
		t.Errorf("version %s, before %s", after, before)
	}
	if code, _, body := w.do(w.admin, http.MethodPatch, confPath, `{"data":{"other":"mine"}}`); code != http.StatusOK {
		t.Errorf("what no source declares: %d %s", code, body)
	}
}

// TestWhoMayCome looks at the ways in.
func TestWhoMayCome(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	w := serveAPI(t, func(cfg *Config) {
		cfg.API.Names, cfg.API.AuditLog = []string{"api.example.org", "192.0.2.7"}, audit
	})
	if info, err := os.Stat(filepath.Join(w.dir, "kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info, err)
	}
	if code, _, _ := w.do(w.client(pki.Subject{Name: "ada"}), http.MethodGet, confPath, ""); code != http.StatusForbidden {
		t.Errorf("a user without rights: %d", code)
	}
	other, err := pki.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := other.Issue(pki.Admin, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stranger := w.client(pki.Admin)
	cert, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	config := stranger.Transport.(*http.Transport).TLSClientConfig
	config.Certificates = []tls.Certificate{cert}
	if code, _, _ := w.do(stranger, http.MethodGet, confPath, ""); code != http.StatusUnauthorized {
		t.Errorf("another cluster's administrator: %d", code)
	}
	named := w.client(pki.Admin)
	named.Transport.(*http.Transport).TLSClientConfig.ServerName = "api.example.org"
	if code, _, body := w.do(named, http.MethodGet, confPath, ""); code != http.StatusOK {
		t.Errorf("by another name: %d %s", code, body)
	}
	if code, _, _ := w.do(w.admin, http.MethodPatch, confPath, `{"data":{"other":"x"}}`); code != http.StatusOK {
		t.Errorf("patch: %d", code)
	}
	if text, err := os.ReadFile(audit); err != nil || !strings.Contains(string(text), `"verb":"patch"`) {
		t.Errorf("audit log %s, %v", text, err)
	}
}

// TestListen says where the API listens, and what it tells pods and people.
func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		name, address, node, want string
	}{
		{"a port that is taken", taken.Addr().String(), "", "choose another address"},
		{"no port", "127.0.0.1", "", "missing port"},
		{"loopback", "127.0.0.1:0", "", ""},
		{"loopback on a node", "127.0.0.1:0", "127.0.0.2", ""},
	} {
		cfg := Config{Flags: Flags{PodCIDR: "10.244.0.0/16", API: APIFlags{Address: c.address}}}
		if c.node != "" {
			cfg.NodeIP = netip.MustParseAddr(c.node)
		}
		l, err := listen(t.Context(), cfg)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--api-address") {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.node == "" != (len(l.server.Addresses) == 0) || !strings.HasPrefix(l.server.URL, "https://127.0.0.1:") {
			t.Errorf("%s: %+v", c.name, l.server)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNearby lets in who is near, and nobody else.
func TestNearby(t *testing.T) {
	for from, want := range map[string]bool{"10.244.3.4:1": true, "192.0.2.1:1": true, "192.0.2.2:1": false, "[::ffff:10.244.3.4]:1": true} {
		n := &nearby{pods: netip.MustParsePrefix("10.244.0.0/16")}
		if got := n.isNear(ends{net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:6443"))}); got != want {
			t.Errorf("from %s: %v", from, got)
		}
	}
}

// ends is a connection that knows its ends and nothing else.
type ends struct{ remote, local net.Addr }

func (e ends) RemoteAddr() net.Addr { return e.remote }
func (e ends) LocalAddr() net.Addr  { return e.local }
