package apiserver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// TestElection has three candidates stand for election on a lease: one leads at
// a time, and another takes over when it gives up.
func TestElection(t *testing.T) {
	w := inMemory(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type term struct {
		id     string
		resign context.CancelFunc
	}
	terms := make(chan term)
	ended := make(chan string, 3)
	var all sync.WaitGroup
	for _, id := range []string{"a", "b", "c"} {
		own, resign := context.WithCancel(ctx)
		all.Go(func() {
			leaderelection.RunOrDie(own, leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "default", Name: "leader"}, Client: w.kube.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: id},
				},
				LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 50 * time.Millisecond, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { terms <- term{id, resign} },
					OnStoppedLeading: func() { ended <- id },
				},
			})
		})
	}
	led := map[string]bool{}
	for range 3 {
		var now term
		select {
		case now = <-terms:
		case <-ctx.Done():
			t.Fatalf("nobody leads; so far %v", led)
		}
		lease, err := w.kube.CoordinationV1().Leases("default").Get(ctx, "leader", metav1.GetOptions{})
		w.must(lease, err)
		if led[now.id] || *lease.Spec.HolderIdentity != now.id {
			t.Errorf("%s leads after %v, the lease says %s", now.id, led, *lease.Spec.HolderIdentity)
		}
		led[now.id] = true
		now.resign()
		<-ended
	}
	all.Wait()
}
