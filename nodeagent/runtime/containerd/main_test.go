package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"go.uber.org/goleak"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// daemon is the private containerd that the tests of this package share.
var daemon struct {
	once    sync.Once
	dir     string
	address string
	image   v1.Image
	err     error
}

const toolRef = "evenkeel.io/tool:1"

// The first thread is kept for TestMain: some tests change the namespaces of
// their thread, and those that /proc/self shows are the first one's.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	code := m.Run()
	if daemon.dir != "" {
		if err := StopPrivate(context.Background(), filepath.Join(daemon.dir, "c")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.RemoveAll(daemon.dir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func startDaemon() {
	daemon.dir, daemon.err = os.MkdirTemp("/tmp", "ek")
	if daemon.err != nil {
		return
	}
	if daemon.err = os.Chmod(daemon.dir, 0o711); daemon.err != nil { // for pods with users of their own
		return
	}
	daemon.address, daemon.err = StartPrivate(context.Background(), PrivateConfig{
		Dir: filepath.Join(daemon.dir, "c"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if daemon.err != nil {
		return
	}
	daemon.image, daemon.err = images.Image(context.Background(), "testdata/tool", images.Options{
		Dirs: []string{"/data"},
		Files: map[string][]byte{
			"/etc/passwd": []byte("root:x:0:0::/root:/bin/sh\nkeeper:x:1000:1001::/:/bin/sh\n"),
			"/etc/group":  []byte("root:x:0:\nkeepers:x:1001:\nlamps:x:1002:keeper,other\n"),
		},
		User: "keeper", Env: []string{"LIGHT=on"},
	})
}

// need skips a test that the machine cannot run, but not in CI.
func need(t testing.TB) {
	t.Helper()
	requires.Root(t)
	daemon.once.Do(startDaemon)
	var missing *MissingError
	if errors.As(daemon.err, &missing) {
		requires.Unmet(t, missing.Error())
	}
	if daemon.err != nil {
		t.Fatal(daemon.err)
	}
}

// node is a Runtime with a containerd namespace of its own and the tool image.
type node struct {
	*Runtime
	t   testing.TB
	cfg Config
}

func newNode(t testing.TB, change ...func(*Config)) *node {
	t.Helper()
	need(t)
	name := "t" + strings.ToLower(randomID()[:8])
	cfg := Config{
		Address: daemon.address, Node: name, Namespace: "evenkeel-" + name, StateDir: filepath.Join(daemon.dir, name),
		DaemonState: PrivateState(filepath.Join(daemon.dir, "c")), CgroupRoot: "/evenkeel-test/" + name, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	n := &node{t: t, cfg: cfg}
	n.open()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Cleanup(ctx, true); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		n.cgroups.removeEmpty("/evenkeel-test")
	})
	n.load()
	return n
}

// open makes the Runtime anew, as a restarted agent does.
func (n *node) open() {
	n.t.Helper()
	if n.Runtime != nil {
		_ = n.Close() // it may have been closed already
	}
	r, err := New(n.t.Context(), n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Runtime = r
}

func (n *node) load() {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), "tool.tar")
	if err := images.Save(daemon.image, toolRef, path); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.Import(n.t.Context(), path); err != nil {
		n.t.Fatal(err)
	}
}

// container is a container of the pod "uid" of this node.
func (n *node) container(uid, name string, args ...string) rt.Container {
	n.t.Helper()
	output := filepath.Join(n.cfg.StateDir, "logs", uid, name)
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		n.t.Fatal(err)
	}
	for _, path := range []string{output + ".out", output + ".err"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	return rt.Container{
		ID: n.cfg.Node + "-" + uid + "-" + name, Name: name, SpecHash: "h1", Image: toolRef,
		Pod:          rt.PodRef{UID: n.cfg.Node + uid, Namespace: "default", Name: "pod-" + uid},
		Args:         append([]string{"/tool"}, args...),
		CgroupParent: n.cfg.CgroupRoot + "/pod" + uid,
		Stdout:       output + ".out", Stderr: output + ".err",
	}
}

func (n *node) start(c rt.Container) rt.Container {
	n.t.Helper()
	if err := n.Start(n.t.Context(), c); err != nil {
		n.t.Fatal(err)
	}
	return c
}

func (n *node) status(id string) rt.Status {
	n.t.Helper()
	all, err := n.Containers(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	n.t.Fatalf("container %s is not listed in %+v", id, all)
	return rt.Status{}
}

// await watches a container until it is as wanted.
func (n *node) await(id, what string, is func(rt.Status) bool) rt.Status {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	for {
		s := n.status(id)
		if is(s) {
			return s
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			n.t.Fatalf("container %s never was %s: %+v", id, what, s)
		}
	}
}

func exited(s rt.Status) bool { return s.State == rt.Exited }

// outputs is what a container has written.
func outputs(c rt.Container) string {
	out, _ := os.ReadFile(c.Stdout)
	bad, _ := os.ReadFile(c.Stderr)
	return string(out) + string(bad)
}

// awaitLog waits until a container's log holds a text.
func (n *node) awaitLog(c rt.Container, text string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	for {
		data := outputs(c)
		if strings.Contains(data, text) {
			return data
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			n.t.Fatalf("log of %s never held %q: %q", c.ID, text, data)
		}
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
