package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T, store pki.Store) (*pki.Authority, *clock) {
	t.Helper()
	c := &clock{now: time.Now()}
	a, err := pki.Open(t.Context(), store, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

// TestOneAuthority opens a new cluster by many processes at once.
func TestOneAuthority(t *testing.T) {
	store := memory.New()
	got := make([]*pki.Authority, 20)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			a, err := pki.Open(context.Background(), store, nil)
			if err != nil {
				t.Error(err)
			}
			got[i] = a
		})
	}
	wg.Wait()
	for _, a := range got[1:] {
		if diff := cmp.Diff(string(got[0].Bundle()), string(a.Bundle())); diff != "" {
			t.Errorf("another authority (-first +other):\n%s", diff)
		}
		if !a.TokenKeys()[0].Equal(got[0].TokenKeys()[0]) {
			t.Error("another key for tokens")
		}
	}
	if block, rest := pem.Decode(got[0].Bundle()); block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Errorf("the bundle holds more than a certificate: %v, %d bytes", block, len(rest))
	}
}

// unanswered is a store whose first answers get lost.
type unanswered struct {
	pki.Store
	lose int
}

func (u *unanswered) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	revision, err := u.Store.Commit(ctx, txn)
	if u.lose--; u.lose >= 0 {
		return 0, registry.ErrUnavailable
	}
	return revision, err
}

func TestOpenAfterLostAnswer(t *testing.T) {
	lossy := &unanswered{Store: memory.New(), lose: 1}
	a, _ := open(t, lossy)
	b, _ := open(t, lossy.Store)
	if lossy.lose >= 0 {
		t.Error("no answer was lost")
	}
	if string(a.Bundle()) != string(b.Bundle()) {
		t.Error("the authority is not the one in the store")
	}
}

func TestOpenBroken(t *testing.T) {
	store := memory.New()
	if _, err := store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(schema.PKIPrefix+"ca", []byte("junk"))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(t.Context(), store, nil); err == nil || errors.Is(err, registry.ErrConflict) {
		t.Errorf("a broken authority: %v", err)
	}
}

// TestServing connects to a server with all names that it should have, as time
// goes by.
func TestServing(t *testing.T) {
	a, clock := open(t, memory.New())
	serving, err := a.Serve([]string{"api.example.org"}, []netip.Addr{netip.MustParseAddr("10.96.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Bundle())
	for _, host := range []string{"127.0.0.1", "::1", "localhost", "10.96.0.1", "kubernetes.default.svc", "api.example.org"} {
		if err := handshake(serving, &tls.Config{RootCAs: roots, ServerName: host, Time: clock.Now}); err != nil {
			t.Errorf("as %s: %v", host, err)
		}
	}
	if err := handshake(serving, &tls.Config{RootCAs: roots, ServerName: "evil.example.org", Time: clock.Now}); err == nil {
		t.Error("the certificate is good for any name")
	}
	first, _ := serving.CurrentCertKeyContent()
	clock.Add(15 * time.Hour)
	if again, _ := serving.CurrentCertKeyContent(); string(again) != string(first) {
		t.Error("renewed before two thirds of its life")
	}
	clock.Add(2 * time.Hour)
	if again, _ := serving.CurrentCertKeyContent(); string(again) == string(first) {
		t.Error("not renewed after two thirds of its life")
	}
	clock.Add(1000 * time.Hour) // asleep
	if err := handshake(serving, &tls.Config{RootCAs: roots, ServerName: "localhost", Time: clock.Now}); err != nil {
		t.Errorf("after a long sleep: %v", err)
	}
}

// handshake connects a client to a server that shows the certificate.
func handshake(serving *pki.Serving, client *tls.Config) error {
	cert, key := serving.CurrentCertKeyContent()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	here, there := net.Pipe()
	defer here.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		_ = tls.Server(there, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake() // the client says what is wrong
	}()
	err = tls.Client(here, client).Handshake()
	here.Close()
	<-done
	return err
}

func TestKubeconfig(t *testing.T) {
	a, clock := open(t, memory.New())
	path := filepath.Join(t.TempDir(), "data", "kubeconfig")
	const server = "https://127.0.0.1:6443"
	write := func(server string) string {
		t.Helper()
		if err := a.WriteKubeconfig(path, server); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := write(server)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig([]byte(first))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(cfg.CertData)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kubernetes-admin", "system:masters", server}, []string{cert.Subject.CommonName, cert.Subject.Organization[0], cfg.Host}); diff != "" {
		t.Errorf("subject and server (-want +got):\n%s", diff)
	}
	if write(server) != first {
		t.Error("a good file was replaced")
	}
	if write("https://127.0.0.1:7443") == first {
		t.Error("another server, and the file stayed")
	}
	second := write(server)
	clock.Add(61 * 24 * time.Hour)
	if write(server) == second {
		t.Error("not renewed after two thirds of its life")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	write(server)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file that others read stayed so: %v, %v", info.Mode(), err)
	}
	other, _ := open(t, memory.New())
	third := write(server)
	if err := other.WriteKubeconfig(path, server); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) == third {
		t.Error("another cluster, and the file stayed")
	}
}
