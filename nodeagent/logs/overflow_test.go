package logs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

// overflow makes the kernel lose events: nobody reads them yet, and no two in
// a row are alike.
func overflow(t *testing.T, a, b *shim) {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || most > 1<<20 {
		requires.Unmet(t, fmt.Sprintf("the kernel keeps %s events, %v", data, err))
	}
	for range most/2 + 1 {
		a.write(0, "a\n")
		b.write(0, "b\n")
	}
}

// idle is a keeper whose Manager does not run yet.
func idle(t *testing.T) *keeper {
	t.Helper()
	k := newKeeper(t)
	k.stop()
	m, err := New(k.cfg)
	if err != nil {
		t.Fatal(err)
	}
	k.Manager = m
	return k
}

// TestEventsLost: the end of a container is known although the kernel lost the
// event of it, and so is what it wrote; those that run on, and those that have
// yet to start, are left alone.
func TestEventsLost(t *testing.T) {
	k := idle(t)
	ends, runs, starts := container(0), container(1), container(2)
	ends.Name, runs.Name, starts.Name = "ends", "runs", "starts"
	a, b := k.open(ends), k.open(runs)
	if _, err := k.Open(starts); err != nil {
		t.Fatal(err)
	}
	overflow(t, a, b)
	a.write(0, "last\n")
	a.close()
	k.run()
	k.ended(ends)
	if got := k.read(ends, Options{Tail: 1}); got != "last\n" {
		t.Errorf("the last line is %q", got)
	}
	for _, c := range []Container{runs, starts} {
		s := b
		if c == starts {
			s = k.open(c)
		}
		s.write(0, "more\n")
		k.await("written", func() bool { return k.read(c, Options{Tail: 1}) == "more\n" })
		s.close()
		k.ended(c)
	}
}

// TestDiscardBeforeRun: a log is given up, or is not, as it is while Run runs.
func TestDiscardBeforeRun(t *testing.T) {
	k := idle(t)
	c, never := container(0), Container{ID: "u2-main-0", UID: "u2", Namespace: "default", Pod: "never", Name: "main"}
	if _, err := k.Open(never); err != nil {
		t.Fatal(err)
	}
	s := k.open(c)
	s.write(0, "one\n")
	k.Discard(never)
	k.Discard(c)
	if k.find(never) != nil || k.find(c) == nil {
		t.Error("given up is the log of another than the one that was never started")
	}
	s.write(0, "two\n")
	k.run()
	k.await("written", func() bool { return k.read(c, all()) == "one\ntwo\n" })
	s.close()
	k.ended(c)
}
