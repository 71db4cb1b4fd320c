package nodeagent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
)

// fakeLogs is a Logs in memory.
type fakeLogs struct {
	mu   sync.Mutex
	pods map[string]bool
	tail string         // of every log
	kept map[string]int // process by container ID
	left chan string    // may be nil
}

func (l *fakeLogs) Open(c logs.Container) (logs.Spools, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pods == nil {
		l.pods = map[string]bool{}
	}
	l.pods[c.UID] = true
	return logs.Spools{Stdout: "/spool/" + c.ID}, nil
}

func (l *fakeLogs) Discard(logs.Container) {}

func (l *fakeLogs) Keep(c logs.Container, pid int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = map[string]int{}
	}
	l.kept[c.ID] = pid
	return nil
}

func (l *fakeLogs) Left() <-chan string { return l.left }

func (l *fakeLogs) Tail(context.Context, logs.Container, int64, int64) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail, nil
}

func (l *fakeLogs) RemovePod(uid string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, uid)
	return nil
}

func (l *fakeLogs) Pods() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.pods)), nil
}

// When a container's outputs are closed and it runs on, its log is kept.
func TestOutputsKept(t *testing.T) {
	inWorld(t, func(w *world) {
		w.logs.left = make(chan string, 1)
		pod := newPod("a", "main", "done")
		w.start()
		w.bind(pod)
		w.pass(startedDelay)
		w.logs.mu.Lock()
		clear(w.logs.kept)
		w.logs.mu.Unlock()
		w.logs.left <- string(pod.UID)
		w.pass(leftDelay)
		list, err := w.runtime.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{}
		for _, c := range list {
			want[c.ID] = c.PID
		}
		if diff := cmp.Diff(want, w.logs.kept); diff != "" || len(want) != 2 {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	})
}
