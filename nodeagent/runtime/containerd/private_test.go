package containerd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// A private containerd that is killed and started again has lost nothing: its
// containers ran on, and the Runtime finds back by itself.
func TestPrivateRestart(t *testing.T) {
	need(t)
	dir, err := os.MkdirTemp("/tmp", "ekp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := PrivateConfig{Dir: filepath.Join(dir, "c"), Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	address, err := StartPrivate(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopPrivate(t, cfg.Dir) }) // after the node's own cleanup
	n := newNode(t, func(c *Config) { c.Address = address })
	c := n.start(n.container("p1", "main", "sleep"))
	before := n.status(c.ID)
	events, err := n.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if again, err := StartPrivate(t.Context(), cfg); err != nil || again != address {
		t.Fatalf("second start: %s, %v", again, err)
	}
	pid := privatePID(t, cfg.Dir)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, events)
	if _, err := n.Containers(t.Context()); !errors.Is(err, rt.ErrUnavailable) {
		t.Errorf("without containerd: %v", err)
	}
	if _, err := StartPrivate(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if privatePID(t, cfg.Dir) == pid {
		t.Error("the pid file was not rewritten")
	}
	if got := awaitRuntime(t, n, c.ID); got != before {
		t.Errorf("container was %+v, is %+v", before, got)
	}
}

// An agent that is killed as it starts containerd leaves no pid, or half a file.
func TestPrivateStopsWithoutPID(t *testing.T) {
	need(t)
	for name, spoil := range map[string]func(string) error{
		"none":         os.Remove,
		"half written": func(file string) error { return os.Truncate(file, 0) },
		"of before":    func(file string) error { return os.WriteFile(file, []byte("4194304"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			base, err := os.MkdirTemp("/tmp", "ekp")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(base) })
			dir := filepath.Join(base, "c")
			if _, err := StartPrivate(t.Context(), PrivateConfig{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			started := processOf(privatePID(t, dir))
			if err := spoil(filepath.Join(dir, "containerd.pid")); err != nil {
				t.Error(err)
			}
			stopPrivate(t, dir)
			if started.lives() {
				t.Errorf("containerd (pid %d) runs on", started.pid)
				_ = syscall.Kill(started.pid, syscall.SIGKILL)
			}
		})
	}
}

func stopPrivate(t *testing.T, dir string) {
	t.Helper()
	for range 2 {
		if err := StopPrivate(context.Background(), dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

func privatePID(t *testing.T, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "containerd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func awaitClosed(t *testing.T, events <-chan rt.Event) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case _, open := <-events:
			if !open {
				return
			}
		case <-timeout:
			t.Fatal("the events did not end")
		}
	}
}

func awaitRuntime(t *testing.T, n *node, id string) rt.Status {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := n.Containers(t.Context()); err == nil {
			return n.status(id)
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		_ = pause(t.Context(), 20*time.Millisecond)
	}
}

func TestSocketPathFits(t *testing.T) {
	for _, dir := range []string{"/short", "/" + strings.Repeat("long/", 40)} {
		if got := privateIn(dir).Socket; len(got) > maxSocketPath {
			t.Errorf("%s is too long", got)
		}
	}
}

func TestDetectNobody(t *testing.T) {
	if _, err := Detect(t.Context(), filepath.Join(t.TempDir(), "none.sock")); !errors.Is(err, rt.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var missing *MissingError
	if err := requirePrograms(); !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("got %v", err)
	}
	if _, err := exec.LookPath("containerd"); err == nil {
		t.Error("the test hides nothing")
	}
}
