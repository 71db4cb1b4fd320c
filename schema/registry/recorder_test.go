package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// counting counts the commits of a store, and refuses large ones.
type counting struct {
	*memory.Store
	mu      sync.Mutex
	commits int
	most    int // operations that it takes at once
}

func (s *counting) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(txn.Ops) > s.most {
		return 0, registry.ErrTooLarge
	}
	s.commits++
	return s.Store.Commit(ctx, txn)
}

// TestRecorder: events that come together are written together, what happens
// again is counted, and none is lost where the store takes less at once.
func TestRecorder(t *testing.T) {
	for _, tc := range []struct{ most, commits int }{{registry.MaxOps, 3}, {30, 9}} {
		synctest.Test(t, func(t *testing.T) {
			store := &counting{Store: memory.New(), most: tc.most}
			rec := registry.NewRecorder(registry.RecorderConfig{Store: store, Component: "test", Logger: slog.New(slog.DiscardHandler)})
			for round := range 2 {
				for i := range 100 {
					rec.Event(pod(fmt.Sprint("p", i), ""), corev1.EventTypeNormal, "Started", "up")
				}
				for range round {
					rec.Event(pod("p0", ""), corev1.EventTypeNormal, "Started", "up")
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- rec.Run(ctx) }()
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			kvs, _, err := store.List(t.Context(), schema.Events.Prefix(""), 0)
			if err != nil {
				t.Fatal(err)
			}
			counts := map[int32]int{}
			for _, kv := range kvs {
				e := must[schema.Object](t)(schema.DecodeObject(kv.Value)).(*corev1.Event)
				counts[e.Count]++
			}
			if diff := cmp.Diff(map[int32]int{2: 99, 3: 1}, counts); diff != "" {
				t.Errorf("events by count (-want +got):\n%s", diff)
			}
			if store.commits > tc.commits {
				t.Errorf("%d commits, want at most %d", store.commits, tc.commits)
			}
		})
	}
}
