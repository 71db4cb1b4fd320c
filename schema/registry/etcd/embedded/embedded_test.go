package embedded

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/registrytest"
)

func startServer(t *testing.T, dir string) *Server {
	t.Helper()
	srv, err := Start(t.Context(), Config{Dir: dir, NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return srv
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ek")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestStore runs the suite on a real etcd, past the network and through its
// socket.
func TestStore(t *testing.T) {
	dir := shortDir(t)
	srv := startServer(t, dir)
	defer srv.Close()
	remote, err := clientv3.New(clientv3.Config{Endpoints: []string{Endpoint(dir)}})
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	for name, client := range map[string]*clientv3.Client{"in process": srv.Client(), "socket": remote} {
		t.Run(name, func(t *testing.T) {
			registrytest.Run(t, func(t *testing.T) registrytest.Harness {
				if _, err := client.Delete(t.Context(), "", clientv3.WithPrefix()); err != nil {
					t.Fatal(err)
				}
				return registrytest.Harness{
					Store: etcd.NewStore(client),
					Compact: func(ctx context.Context, revision int64) error {
						_, err := client.Compact(ctx, revision)
						return err
					},
				}
			})
		})
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	dir := shortDir(t)
	srv := startServer(t, dir)
	if _, err := Start(t.Context(), Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrInUse) {
		t.Errorf("second start: %v", err)
	}
	store := etcd.NewStore(srv.Client())
	if _, err := store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put("/a", []byte("kept"))}}); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	srv = startServer(t, dir)
	defer srv.Close()
	kv, err := etcd.NewStore(srv.Client()).Get(t.Context(), "/a")
	if err != nil || string(kv.Value) != "kept" {
		t.Errorf("after a restart: %q, %v", kv.Value, err)
	}
}

// Somebody who watches, as `reconcile status --watch` does, holds up no stop.
func TestCloseEndsWatches(t *testing.T) {
	dir := shortDir(t)
	srv := startServer(t, dir)
	remote, err := clientv3.New(clientv3.Config{Endpoints: []string{Endpoint(dir)}})
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	if created := <-remote.Watch(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()); !created.Created {
		t.Fatalf("watch: %+v", created)
	}
	began := time.Now()
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second { // etcd itself would wait for 7
		t.Errorf("close took %v with a watch open", took)
	}
}
