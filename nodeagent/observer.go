package nodeagent

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// resync is how often the runtime is asked although nothing was heard of it.
const resync = 30 * time.Second

// observer keeps what the runtime has, by pod. It lists on the runtime's hints
// and takes in at once what this process itself started or removed.
type observer struct {
	runtime runtime.Runtime
	logger  *slog.Logger
	changed func(podUID string) // called without the lock held

	mu      sync.Mutex
	pods    map[string]map[string]runtime.Status // by pod UID, container ID
	stamp   int64                                // counts local changes
	local   map[string]int64                     // container ID → stamp of its last local change
	moved   chan struct{}                        // closed and replaced at every change
	answers bool                                 // the last list was answered
	listed  chan struct{}                        // closed after the first
	again   chan struct{}                        // asks for a list
}

func newObserver(rt runtime.Runtime, logger *slog.Logger, changed func(string)) *observer {
	return &observer{
		runtime: rt, logger: logger, changed: changed, pods: map[string]map[string]runtime.Status{}, local: map[string]int64{},
		moved: make(chan struct{}), listed: make(chan struct{}), again: make(chan struct{}, 1),
	}
}

// run lists, and lists again at every hint, until ctx ends.
func (o *observer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		events, err := o.runtime.Events(ctx)
		if err == nil {
			err = o.follow(ctx, events)
		}
		if err != nil && ctx.Err() == nil {
			o.setAnswers(false)
			o.logger.Warn("container runtime does not answer; what runs is left alone", "error", err)
			wait(ctx, time.Second)
		}
	}
	return nil
}

func (o *observer) follow(ctx context.Context, events <-chan runtime.Event) error {
	ticker := time.NewTicker(resync)
	defer ticker.Stop()
	for {
		if err := o.list(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				return fmt.Errorf("events: %w", runtime.ErrUnavailable)
			}
		case <-ticker.C:
		case <-o.again:
		}
		drain(events)
	}
}

// drain takes the hints that have come meanwhile: one list answers them all.
func drain(events <-chan runtime.Event) {
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

func (o *observer) list(ctx context.Context) error {
	o.mu.Lock()
	began := o.stamp
	o.mu.Unlock()
	statuses, err := o.runtime.Containers(ctx)
	if err != nil {
		return err
	}
	for _, uid := range o.take(statuses, began) {
		o.changed(uid)
	}
	return nil
}

// take replaces what is known by a list, but for what was started or removed
// by ourselves while it was made.
func (o *observer) take(statuses []runtime.Status, began int64) (dirty []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := map[string]map[string]runtime.Status{}
	for _, s := range statuses {
		if o.local[s.ID] <= began {
			put(next, s)
		}
	}
	for _, pod := range o.pods {
		for id, s := range pod {
			if o.local[id] > began {
				put(next, s)
			}
		}
	}
	for id, stamp := range o.local {
		if stamp <= began {
			delete(o.local, id)
		}
	}
	for uid := range next {
		if !sameContainers(o.pods[uid], next[uid]) {
			dirty = append(dirty, uid)
		}
	}
	for uid := range o.pods {
		if next[uid] == nil {
			dirty = append(dirty, uid)
		}
	}
	o.pods, o.answers = next, true
	o.broadcastLocked()
	if !isClosed(o.listed) {
		close(o.listed)
	}
	return dirty
}

func put(pods map[string]map[string]runtime.Status, s runtime.Status) {
	if pods[s.Pod.UID] == nil {
		pods[s.Pod.UID] = map[string]runtime.Status{}
	}
	pods[s.Pod.UID][s.ID] = s
}

func sameContainers(a, b map[string]runtime.Status) bool {
	if len(a) != len(b) {
		return false
	}
	for id, s := range a {
		if b[id] != s {
			return false
		}
	}
	return true
}

func (o *observer) broadcastLocked() {
	close(o.moved)
	o.moved = make(chan struct{})
}

// set takes in a container that this process started.
func (o *observer) set(s runtime.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stamp++
	o.local[s.ID] = o.stamp
	put(o.pods, s)
	o.broadcastLocked()
}

// forget takes in a container that this process removed.
func (o *observer) forget(podUID, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stamp++
	o.local[id] = o.stamp
	delete(o.pods[podUID], id)
	if len(o.pods[podUID]) == 0 {
		delete(o.pods, podUID)
	}
	o.broadcastLocked()
}

// refresh asks for a list soon.
func (o *observer) refresh() {
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// containers returns a pod's containers; ok is false while the runtime does
// not answer, so that nothing is decided on old news.
func (o *observer) containers(podUID string) (out []runtime.Status, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.pods[podUID] {
		out = append(out, s)
	}
	return out, o.answers
}

// uids returns the pods that the runtime has containers of.
func (o *observer) uids() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]string, 0, len(o.pods))
	for uid := range o.pods {
		out = append(out, uid)
	}
	return out
}

func (o *observer) setAnswers(answers bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers = answers
}

// awaitExit blocks until a container is exited or gone (true), or ctx ends.
func (o *observer) awaitExit(ctx context.Context, podUID, id string) bool {
	for {
		o.mu.Lock()
		s, known := o.pods[podUID][id]
		exited := o.answers && (!known || s.State == runtime.Exited)
		moved := o.moved
		o.mu.Unlock()
		if exited {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-moved:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// fingerprint is a short name for a value.
func fingerprint(value []byte) string {
	h := fnv.New64a()
	h.Write(value)
	return fmt.Sprintf("%016x", h.Sum64())
}
