package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
)

// tools is where what only tests need may be unpacked.
const tools = root + "/.build/tools/usr/bin"

// etcdProgram is where etcd is: installed, or unpacked for tests.
func etcdProgram() string {
	if path, err := filepath.Abs(filepath.Join(tools, "etcd")); err == nil && exists(path) {
		return path
	}
	return "etcd"
}

// startEtcd runs a real etcd in a namespace at an address of it, once more if
// it ran before.
func (w *world) startEtcd(ns netns.NsHandle, ip string) (etcd *process, endpoint string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "etcd")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	client, peer := "http://"+ip+":2379", "http://127.0.0.1:2380"
	etcd = w.start(ns, etcdProgram(), "--name=e2e", "--data-dir="+filepath.Join(dir, "data"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=e2e="+peer)
	return etcd, ip + ":2379"
}

// openEtcd connects to an etcd in a namespace until the test ends.
func (w *world) openEtcd(ns netns.NsHandle, endpoint string) registry.Store {
	w.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			if path, local := strings.CutPrefix(addr, "unix:"); local {
				return dial(ctx, ns, "unix", path)
			}
			return dial(ctx, ns, "tcp", addr)
		})},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = client.Close() })
	store := etcd.NewStore(client)
	eventually(w.t, patience, "etcd at "+endpoint, func() error {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if _, err := store.Get(ctx, schema.Root); !errors.Is(err, registry.ErrNotFound) {
			return err
		}
		return nil
	})
	return store
}
