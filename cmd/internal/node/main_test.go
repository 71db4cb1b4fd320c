package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/containerd"
	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// childEnv, with a directory, makes the test program one that keeps the logs
// there and can be killed.
const childEnv = "EVENKEEL_TEST_NODE_LOGS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		err := keepLogs(dir)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if daemon.dir != "" {
		if err := containerd.StopPrivate(context.Background(), filepath.Join(daemon.dir, "c")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.RemoveAll(daemon.dir)
	}
	// A connection of spdystream that both ends close lingers for a second.
	if err := goleak.Find(goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func logsConfig(dir string) logs.Config {
	return logs.Config{
		Dir: filepath.Join(dir, "spools"), LogDir: filepath.Join(dir, "pods"), MaxSize: 4 << 20, MaxFiles: 10000,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

func keepLogs(dir string) error {
	m, err := logs.New(logsConfig(dir))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "up"), nil, 0o600); err != nil {
		return err
	}
	return m.Run(context.Background())
}

// daemon is the private containerd that the tests of this package share.
var daemon struct {
	once         sync.Once
	dir, address string
	err          error
}

const voiceRef = "evenkeel.io/voice:1"

func startDaemon() {
	ctx := context.Background()
	if daemon.dir, daemon.err = os.MkdirTemp("/tmp", "ekn"); daemon.err != nil {
		return
	}
	daemon.address, daemon.err = containerd.StartPrivate(ctx, containerd.PrivateConfig{
		Dir: filepath.Join(daemon.dir, "c"), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if daemon.err == nil {
		daemon.err = images.BuildWith(ctx, "testdata/voice", voiceRef, filepath.Join(daemon.dir, "voice.tar"), images.Options{Dirs: []string{"/data"}})
	}
}

// bench is a runtime with its logs, without an agent.
type bench struct {
	t       *testing.T
	dir     string
	name    string
	runtime *containerd.Runtime
	logs    *logs.Manager
	stop    func() // ends the keeping of logs
}

func newBench(t *testing.T) *bench {
	t.Helper()
	requires.Root(t)
	daemon.once.Do(startDaemon)
	var missing *containerd.MissingError
	if errors.As(daemon.err, &missing) {
		requires.Unmet(t, missing.Error())
	}
	if daemon.err != nil {
		t.Fatal(daemon.err)
	}
	b := &bench{t: t, dir: t.TempDir(), name: fmt.Sprintf("n%d", time.Now().UnixNano())}
	var err error
	b.runtime, err = containerd.New(t.Context(), containerd.Config{
		Address: daemon.address, Node: b.name, StateDir: filepath.Join(daemon.dir, b.name), CgroupRoot: "/evenkeel-test/" + b.name,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	if _, err := b.runtime.Import(t.Context(), filepath.Join(daemon.dir, "voice.tar")); err != nil {
		t.Fatal(err)
	}
	b.keepLogs()
	return b
}

func (b *bench) keepLogs() {
	b.t.Helper()
	m, err := logs.New(logsConfig(b.dir))
	if err != nil {
		b.t.Fatal(err)
	}
	b.logs = m
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	b.stop = func() { cancel(); running.Wait() }
}

func (b *bench) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.runtime.Cleanup(ctx, true); err != nil {
		b.t.Error(err)
	}
	b.stop()
	if err := b.runtime.Close(); err != nil {
		b.t.Error(err)
	}
}

// start runs a container of the pod "p".
func (b *bench) start(name string, change func(*rt.Container), args ...string) logs.Container {
	b.t.Helper()
	c := rt.Container{
		ID: b.name + "-" + name, Name: name, Image: voiceRef, Args: append([]string{"/voice"}, args...),
		Pod: rt.PodRef{UID: b.name, Namespace: "default", Name: "p"}, CgroupParent: "/evenkeel-test/" + b.name + "/podp",
	}
	if change != nil {
		change(&c)
	}
	log := logs.Container{ID: c.ID, UID: b.name, Namespace: "default", Pod: "p", Name: name, TTY: c.TTY}
	spools, err := b.logs.Open(log)
	if err != nil {
		b.t.Fatal(err)
	}
	c.Stdout, c.Stderr = spools.Stdout, spools.Stderr
	if err := b.runtime.Start(b.t.Context(), c); err != nil {
		b.t.Fatal(err)
	}
	return log
}

func (b *bench) log(c logs.Container, o logs.Options) string {
	b.t.Helper()
	var out strings.Builder
	if err := b.logs.Read(b.t.Context(), c, o, &out, &out); err != nil {
		b.t.Fatal(err)
	}
	return out.String()
}

// await waits until something is so.
func (b *bench) await(what string, is func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			b.t.Fatalf("never %s", what)
		case <-ticker.C:
		}
	}
}

func (b *bench) says(c logs.Container, text string) {
	b.t.Helper()
	b.await("said: "+text, func() bool { return strings.Contains(b.log(c, logs.Options{Tail: -1}), text) })
}

func (b *bench) status(c logs.Container) rt.Status {
	b.t.Helper()
	all, err := b.runtime.Containers(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == c.ID {
			return s
		}
	}
	b.t.Fatalf("no container %s", c.ID)
	return rt.Status{}
}

func (b *bench) exits(c logs.Container) int {
	b.t.Helper()
	b.await("exited", func() bool { return b.status(c).State == rt.Exited })
	return b.status(c).ExitCode
}
