package nodeagent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// resync is how often the runtime is asked although nothing was heard of it.
const resync = 30 * time.Second

// startedDelay is how soon after a start the runtime is asked what it has of
// it: starts in a row share one list.
const startedDelay = 2 * time.Second

// observer keeps what the runtime has, by pod. It lists on the runtime's hints
// and takes in at once what this process itself started or removed.
type observer struct {
	runtime  runtime.Runtime
	logger   *slog.Logger
	changed  func(podUIDs []string) // both are called without the lock held
	answered func()                 // the runtime began or ceased to answer

	mu      sync.Mutex
	pods    map[string]map[string]runtime.Status // by pod UID, container ID
	stamp   int64                                // counts local changes
	local   map[string]int64                     // container ID → stamp of its last local change
	moved   chan struct{}                        // closed and replaced at every change
	answers bool                                 // the last list was answered
	listed  chan struct{}                        // closed after the first
	again   chan struct{}                        // asks for a list
	started chan struct{}                        // asks for one a little later
}

func newObserver(rt runtime.Runtime, logger *slog.Logger, changed func([]string), answered func()) *observer {
	return &observer{
		runtime: rt, logger: logger, changed: changed, answered: answered,
		pods: map[string]map[string]runtime.Status{}, local: map[string]int64{}, moved: make(chan struct{}),
		listed: make(chan struct{}), again: make(chan struct{}, 1), started: make(chan struct{}, 1),
	}
}

// run lists, and lists again at every hint, until ctx ends.
func (o *observer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := o.follow(ctx); err != nil && ctx.Err() == nil {
			o.logger.Warn("container runtime does not answer; what runs is left alone", "error", err)
			if o.setAnswers(false) {
				o.answered()
			}
			wait(ctx, time.Second)
		}
	}
	return nil
}

// follow asks for hints first, so that none is missed by a list, and returns
// when the runtime is lost.
func (o *observer) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := o.runtime.Events(ctx)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(resync)
	defer ticker.Stop()
	var later <-chan time.Time
	for {
		if err := o.list(ctx); err != nil {
			return err
		}
		for due := false; !due; {
			due = true
			select {
			case <-ctx.Done():
				return nil
			case _, ok := <-events:
				if !ok {
					return fmt.Errorf("events: %w", runtime.ErrUnavailable)
				}
			case <-ticker.C:
			case <-o.again:
			case <-later:
				later = nil
			case <-o.started:
				due = false
				if later == nil {
					later = time.After(startedDelay)
				}
			}
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
	dirty := o.take(statuses, began)
	if o.setAnswers(true) {
		o.answered()
	}
	o.changed(dirty)
	return nil
}

// take replaces what is known by a list that was begun at a stamp, but for
// what was started or removed by ourselves since, and returns the pods that
// differ. Of a container started since, only its exit is news.
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
	for _, s := range statuses {
		if _, here := next[s.Pod.UID][s.ID]; here && s.State == runtime.Exited {
			put(next, s)
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
	o.pods = next
	if len(dirty) > 0 {
		o.broadcastLocked()
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

// set takes in a container that this process started; one that a list has
// already seen exit stays exited.
func (o *observer) set(s runtime.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stamp++
	o.local[s.ID] = o.stamp
	if known, ok := o.pods[s.Pod.UID][s.ID]; !ok || known.State != runtime.Exited {
		put(o.pods, s)
	}
	o.broadcastLocked()
	poke(o.started)
}

// note takes in what this process noted on a container.
func (o *observer) note(podUID, id, note string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, known := o.pods[podUID][id]
	if !known {
		return
	}
	s.Note = note
	o.stamp++
	o.local[id] = o.stamp
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

// refresh asks for a list now.
func (o *observer) refresh() { poke(o.again) }

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

// all returns the containers of all pods, as last known.
func (o *observer) all() (out []runtime.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, pod := range o.pods {
		for _, s := range pod {
			out = append(out, s)
		}
	}
	return out
}

// has reports whether the runtime has containers of a pod.
func (o *observer) has(podUID string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pods[podUID]) > 0
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

// setAnswers notes whether the runtime answers, and reports whether that is
// new.
func (o *observer) setAnswers(answers bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if answers && !isClosed(o.listed) {
		close(o.listed)
	}
	if o.answers == answers {
		return false
	}
	o.answers = answers
	o.broadcastLocked()
	return true
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
