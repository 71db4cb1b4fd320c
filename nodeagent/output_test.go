package nodeagent

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
)

// fakeLogs is a Logs in memory.
type fakeLogs struct {
	mu   sync.Mutex
	pods map[string]bool
	tail string // of every log
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
