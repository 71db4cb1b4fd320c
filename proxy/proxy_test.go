package proxy

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

type fakeSource struct {
	mu       sync.Mutex
	services []*corev1.Service
	ready    bool
	changed  chan struct{}
}

func (f *fakeSource) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services, nil, f.ready
}

func (f *fakeSource) Changed() <-chan struct{} { return f.changed }

func (f *fakeSource) set(services ...*corev1.Service) {
	f.mu.Lock()
	f.services, f.ready = services, true
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

type fakeBackend struct {
	mu    sync.Mutex
	fail  int // so many Syncs fail first
	tried int
	got   []Ruleset
}

func (f *fakeBackend) Sync(_ context.Context, r Ruleset) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried++
	if f.fail > 0 {
		f.fail--
		return errors.New("no")
	}
	f.got = append(f.got, r)
	return nil
}

func (f *fakeBackend) Cleanup(context.Context) error { panic("Run must leave the rules") }

func (f *fakeBackend) syncs() (tried int, sizes []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.got {
		sizes = append(sizes, len(r.Services))
	}
	return f.tried, sizes
}

// runProxy runs f beside a proxy, in a bubble with its own time.
func runProxy(t *testing.T, backend *fakeBackend, f func(source *fakeSource)) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{changed: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- Run(ctx, Config{Node: "n", Source: source, Backend: backend}) }()
		f(source)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func passTime(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestRunProgramsNothingUntilReady(t *testing.T) {
	b := &fakeBackend{}
	runProxy(t, b, func(s *fakeSource) {
		passTime(5 * time.Minute)
		if tried, _ := b.syncs(); tried != 0 {
			t.Errorf("%d syncs before the source is ready", tried)
		}
		s.set(service("a", "10.96.0.1"))
		passTime(20 * time.Millisecond)
		if _, sizes := b.syncs(); len(sizes) != 1 || sizes[0] != 1 {
			t.Errorf("synced %v, want one ruleset of one service", sizes)
		}
	})
}

func TestRunRetries(t *testing.T) {
	b := &fakeBackend{fail: 4}
	runProxy(t, b, func(s *fakeSource) {
		s.set(service("a", "10.96.0.1"))
		passTime(500 * time.Millisecond)
		if tried, _ := b.syncs(); tried > 3 {
			t.Errorf("%d tries in half a second: no back-off", tried)
		}
		passTime(10 * time.Second)
		if tried, sizes := b.syncs(); tried != 5 || len(sizes) != 1 {
			t.Errorf("%d tries, %d syncs; want 5 and 1", tried, len(sizes))
		}
	})
}

func TestRunCoalescesAndVerifies(t *testing.T) {
	b := &fakeBackend{}
	runProxy(t, b, func(s *fakeSource) {
		s.set(service("a", "10.96.0.1"))
		passTime(20 * time.Millisecond)
		for range 100 { // a burst
			s.set(service("a", "10.96.0.1"), service("b", "10.96.0.2"))
			passTime(100 * time.Microsecond)
		}
		s.set(service("a", "10.96.0.1"), service("b", "10.96.0.2")) // no difference
		passTime(time.Second)
		if _, sizes := b.syncs(); len(sizes) != 2 {
			t.Errorf("%d syncs, want 2", len(sizes))
		}
		passTime(2 * time.Minute)
		if _, sizes := b.syncs(); len(sizes) != 4 {
			t.Errorf("%d syncs after two minutes, want 4: an unchanged ruleset is verified", len(sizes))
		}
	})
}
