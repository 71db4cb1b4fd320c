package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogOfAContainer(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	s := k.open(c)
	if got := k.read(c, all()); got != "" {
		t.Errorf("before anything was written: %q", got)
	}
	s.write(0, "one\ntwo\nno e")
	k.await("written", func() bool { return k.read(c, all()) == "one\ntwo\n" })
	s.write(0, "nd")
	s.write(1, "bad\n")
	k.await("written", func() bool { return strings.Contains(k.read(c, all()), "bad\n") })
	s.close()
	k.ended(c)
	if diff := cmp.Diff("one\ntwo\nbad\nno end", k.read(c, all())); diff != "" {
		t.Error(diff)
	}
	data, err := os.ReadFile(filepath.Join(k.cfg.LogDir, "default_web_u1", "main", "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	var shape []string
	for line := range strings.Lines(string(data)) {
		stamp, rest, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at) > time.Minute {
			t.Errorf("time of %q", line)
		}
		shape = append(shape, rest)
	}
	if diff := cmp.Diff([]string{"stdout F one\n", "stdout F two\n", "stderr F bad\n", "stdout P no end\n"}, shape); diff != "" {
		t.Error(diff)
	}
	links, err := filepath.Glob(filepath.Join(k.cfg.LinkDir, "web_default_main-*.log"))
	if err != nil || len(links) != 1 {
		t.Fatalf("links %v", links)
	}
	if linked, err := os.ReadFile(links[0]); err != nil || !bytes.Equal(linked, data) {
		t.Errorf("link gives %q, %v", linked, err)
	}
	if left, _ := filepath.Glob(filepath.Join(k.cfg.Dir, "u1", "main", "*")); len(left) > 0 {
		t.Errorf("spools left: %v", left)
	}
}

func TestReadOptions(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	s := k.open(c)
	s.write(0, "1\n2\n")
	k.await("written", func() bool { return k.read(c, all()) == "1\n2\n" })
	between := time.Now()
	s.write(1, "3\n")
	k.await("written", func() bool { return k.read(c, all()) == "1\n2\n3\n" })
	s.write(0, "4\n5")
	s.close()
	k.ended(c)
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"all":             {Options{Tail: -1}, "1\n2\n3\n4\n5"},
		"none":            {Options{Tail: 0}, ""},
		"tail":            {Options{Tail: 2}, "4\n5"},
		"long tail":       {Options{Tail: 9}, "1\n2\n3\n4\n5"},
		"limit":           {Options{Tail: -1, LimitBytes: 3}, "1\n2"},
		"tail with limit": {Options{Tail: 2, LimitBytes: 2}, "4\n"},
		"since":           {Options{Tail: -1, Since: between}, "3\n4\n5"},
		"stdout":          {Options{Tail: -1, Stream: Stdout}, "1\n2\n4\n5"},
		"stderr":          {Options{Tail: -1, Stream: Stderr}, "3\n"},
		"follow":          {Options{Tail: 1, Follow: true}, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := k.read(c, test.o); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	stamped := strings.Split(k.read(c, Options{Tail: 2, Timestamps: true}), "\n")
	if len(stamped) != 2 || len(stamped[0]) != len("2006-01-02T15:04:05.000000000Z 4") || !strings.HasSuffix(stamped[1], "Z 5") {
		t.Errorf("with times: %q", stamped)
	}
	if tail, err := k.Tail(t.Context(), c, 80, 3); err != nil || tail != "4\n5" {
		t.Errorf("Tail gives %q, %v", tail, err)
	}
	if _, err := k.Tail(t.Context(), container(4), 80, 3); err == nil {
		t.Error("no error for a run that never was")
	}
}

// rotating makes files that hold about ten lines of line.
func rotating(c *Config) { c.MaxSize, c.MaxFiles = 600, 4 }

func line(i int) string { return fmt.Sprintf("line %06d\n", i) }

// writeLines writes lines a few at a time, and waits until they are in the log:
// what was rotated first is to be there long before it is compressed.
func (k *keeper) writeLines(c Container, s *shim, lines int) {
	k.t.Helper()
	for i := range lines {
		s.write(0, line(i))
		if i%5 == 4 {
			k.await("written", func() bool { return k.read(c, Options{Tail: 1}) == line(i) })
		}
	}
}

func TestRotation(t *testing.T) {
	k := newKeeper(t, rotating)
	c := container(0)
	s := k.open(c)
	k.writeLines(c, s, 100)
	files, err := rotatedFiles(k.Path(c))
	if err != nil || len(files) != 3 {
		t.Fatalf("rotated files: %v, %v", files, err)
	}
	for _, file := range append(files, k.Path(c)) {
		if info, err := os.Stat(file); err != nil || info.Size() > 600 {
			t.Errorf("%s: %v, %v", file, info.Size(), err)
		}
	}
	whole := k.read(c, all())
	oldest, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if again, err := compressOld(t.Context(), k.Path(c), oldest.ModTime()); !again || err != nil {
		t.Errorf("compressed at once: %v", err)
	}
	later := time.Now().Add(time.Minute)
	if again, err := compressOld(t.Context(), k.Path(c), later); again || err != nil {
		t.Fatal(again, err)
	}
	zipped, _ := filepath.Glob(k.Path(c) + ".*.gz")
	if len(zipped) != 2 {
		t.Errorf("compressed: %v", zipped)
	}
	if diff := cmp.Diff(whole, k.read(c, all())); diff != "" {
		t.Errorf("compressed files read otherwise: %s", diff)
	}
	for _, n := range []int{1, 5, 12, 25, 1000} {
		lines := strings.SplitAfter(whole, "\n")
		lines = lines[:len(lines)-1]
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if got := k.read(c, Options{Tail: int64(n)}); got != want {
			t.Errorf("last %d: got %q, want %q", n, got, want)
		}
	}
}

// Who follows sees every line once, across rotations, and the end.
func TestFollow(t *testing.T) {
	k := newKeeper(t, rotating, func(c *Config) { c.MaxFiles = 1000 })
	c := container(0)
	s := k.open(c)
	s.write(0, line(0))
	k.await("written", func() bool { return k.read(c, all()) == line(0) })
	r, w := io.Pipe()
	go func() {
		err := k.Read(t.Context(), c, Options{Tail: -1, Follow: true}, w, w)
		w.CloseWithError(err)
	}()
	const lines = 2000
	go func() {
		for i := 1; i < lines; i++ {
			s.write(0, line(i))
		}
		s.close()
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, string(got), lines)
	if files, _ := rotatedFiles(k.Path(c)); len(files) < 10 {
		t.Errorf("only %d rotations", len(files))
	}
}

func wantLines(t *testing.T, got string, count int) {
	t.Helper()
	i := 0
	for l := range strings.Lines(got) {
		if l != line(i) {
			t.Fatalf("line %d is %q", i, l)
		}
		i++
	}
	if i != count {
		t.Fatalf("%d lines, want %d", i, count)
	}
}

func TestAttach(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	s := k.open(c)
	s.write(0, "before\n")
	k.await("written", func() bool { return k.read(c, all()) == "before\n" })
	var out, bad lockedBuffer
	done := make(chan error, 1)
	go func() { done <- k.Attach(t.Context(), c, &out, &bad) }()
	tail := k.find(c)
	k.await("attached", func() bool { tail.mu.Lock(); defer tail.mu.Unlock(); return len(tail.attached) == 1 })
	s.write(0, "pass")
	k.await("seen", func() bool { return out.String() == "pass" })
	s.write(0, "word")
	s.write(1, "no")
	s.close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if out.String() != "password" || bad.String() != "no" {
		t.Errorf("got %q and %q", out.String(), bad.String())
	}
	if err := k.Attach(t.Context(), c, &out, &bad); err == nil {
		t.Error("attached to what has ended")
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// What was written while no Manager ran, and the end of the writer, are found
// by the next one.
func TestRestart(t *testing.T) {
	k := newKeeper(t, rotating, func(c *Config) { c.MaxFiles = 100 })
	runs, ends := container(0), container(1)
	a, b := k.open(runs), k.open(ends)
	n := 0
	for range 5 {
		for range 30 {
			a.write(0, line(n))
			n++
		}
		k.restart()
	}
	k.stop()
	b.write(0, "the end\n")
	b.close()
	k.start()
	k.ended(ends)
	if got := k.read(ends, all()); got != "the end\n" {
		t.Errorf("got %q", got)
	}
	k.await("written", func() bool { return k.read(runs, Options{Tail: 1}) == line(n-1) })
	wantLines(t, k.read(runs, all()), n)
	if k.find(runs) == nil {
		t.Error("the spools of a container that runs were given up")
	}
	a.write(0, line(n))
	a.close()
	k.ended(runs)
	wantLines(t, k.read(runs, all()), n+1)
}

// A container's log is kept for the run before the present one, and no longer.
func TestRunsAndRemoval(t *testing.T) {
	k := newKeeper(t)
	for attempt := range 4 {
		s := k.open(container(attempt))
		s.write(0, fmt.Sprintf("run %d\n", attempt))
		if attempt < 3 {
			s.close()
			k.ended(container(attempt))
		}
	}
	var kept []string
	entries, _ := os.ReadDir(filepath.Dir(k.Path(container(0))))
	for _, e := range entries {
		kept = append(kept, e.Name())
	}
	if diff := cmp.Diff([]string{"2.log", "3.log"}, kept); diff != "" {
		t.Error(diff)
	}
	if links, _ := filepath.Glob(filepath.Join(k.cfg.LinkDir, "*")); len(links) != 2 {
		t.Errorf("links: %v", links)
	}
	if bytes, inodes := k.Usage("u1"); bytes < 8<<10 || inodes < 6 {
		t.Errorf("usage is %d bytes, %d inodes", bytes, inodes)
	}
	k.restart()
	if uids, err := k.Pods(); err != nil || len(uids) != 1 || uids[0] != "u1" {
		t.Errorf("pods: %v, %v", uids, err)
	}
	if err := k.RemovePod("u1"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{k.cfg.Dir, k.cfg.LogDir, k.cfg.LinkDir} {
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if err := k.RemovePod("u1"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// A container that was never started is given up; one that runs is not.
func TestDiscard(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	for range 2 {
		if _, err := k.Open(c); err != nil {
			t.Fatal(err)
		}
		k.Discard(c)
		k.ended(c)
	}
	s := k.open(c)
	s.write(0, "one\n")
	k.Discard(c)
	s.write(0, "two\n")
	k.await("written", func() bool { return k.read(c, all()) == "one\ntwo\n" })
	s.close()
	k.ended(c)
}

// The space of what was read is given back while the container runs.
func TestSpoolIsFreed(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	s := k.open(c)
	piece := strings.Repeat(strings.Repeat("x", 1023)+"\n", 1024)
	for range 20 {
		s.write(0, piece)
	}
	path := k.find(c).spools[0].path
	k.await("freed", func() bool { return blocks(t, path) < 3<<20 })
	if info, err := os.Stat(path); err != nil || info.Size() != 20<<20 {
		t.Errorf("size changed: %v, %v", info, err)
	}
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	bytes, _ := diskUsage(path)
	return bytes
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"Dir":      func(c *Config) { c.Dir = "spools" },
		"MaxFiles": func(c *Config) { c.MaxFiles = 1 },
		"MaxSize":  func(c *Config) { c.MaxSize = -1 },
		"Logger":   func(c *Config) { c.Logger = nil },
	} {
		cfg := newKeeper(t).cfg
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
