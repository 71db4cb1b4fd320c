package logs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// keeper is a Manager that runs, over directories that outlive it.
type keeper struct {
	*Manager
	t    *testing.T
	cfg  Config
	stop func()
}

func newKeeper(t *testing.T, change ...func(*Config)) *keeper {
	t.Helper()
	dir := t.TempDir()
	k := &keeper{t: t, cfg: Config{
		Dir: filepath.Join(dir, "spools"), LogDir: filepath.Join(dir, "pods"), LinkDir: filepath.Join(dir, "containers"),
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}}
	for _, c := range change {
		c(&k.cfg)
	}
	k.start()
	t.Cleanup(func() { k.stop() })
	return k
}

func (k *keeper) start() {
	k.t.Helper()
	m, err := New(k.cfg)
	if err != nil {
		k.t.Fatal(err)
	}
	k.Manager = m
	k.run()
}

// run runs the Manager.
func (k *keeper) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := k.Manager.Run(ctx); err != nil {
			k.t.Error(err)
		}
	})
	k.stop = func() { cancel(); running.Wait() }
}

// restart replaces the Manager, as a restarted agent does.
func (k *keeper) restart() { k.stop(); k.start() }

// shim writes as a container's shim does.
type shim struct {
	t   *testing.T
	out [2]*os.File
}

func (k *keeper) open(c Container) *shim {
	k.t.Helper()
	spools, err := k.Open(c)
	if err != nil {
		k.t.Fatal(err)
	}
	s := &shim{t: k.t}
	for i, path := range []string{spools.Stdout, spools.Stderr} {
		if path == "" {
			continue
		}
		if s.out[i], err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
			k.t.Fatal(err)
		}
	}
	k.t.Cleanup(s.close)
	return s
}

func (s *shim) write(stream int, text string) {
	s.t.Helper()
	if _, err := s.out[stream].WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shim) close() {
	for _, f := range s.out {
		if f != nil {
			_ = f.Close()
		}
	}
}

func container(attempt int) Container {
	return Container{ID: fmt.Sprintf("u1-main-%d", attempt), UID: "u1", Namespace: "default", Pod: "web", Name: "main", Attempt: attempt}
}

// read returns what a reading without following gives.
func (k *keeper) read(c Container, o Options) string {
	k.t.Helper()
	var out bytes.Buffer
	if err := k.Read(k.t.Context(), c, o, &out, &out); err != nil {
		k.t.Fatal(err)
	}
	return out.String()
}

// await waits until something is so; the moments at which it looks are those
// at which the log moves. A busy machine takes its time for a flood.
func (k *keeper) await(what string, is func() bool) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			k.t.Fatalf("never %s", what)
		case <-ticker.C:
		}
	}
}

// ended waits until a container's log is complete.
func (k *keeper) ended(c Container) {
	k.t.Helper()
	k.await("complete", func() bool { return k.find(c) == nil })
}

func all() Options { return Options{Tail: -1} }

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
