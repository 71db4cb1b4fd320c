package controller

import (
	"context"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/schema"
)

// queue hands out keys, each to one worker at a time: a key that is added
// while it is worked on is handed out again afterwards.
type queue struct {
	mu      sync.Mutex
	order   []schema.Key
	waiting map[schema.Key]bool        // in order
	working map[schema.Key]bool        // true: add again when done
	timers  map[schema.Key]*time.Timer // to be added later
	ready   chan struct{}              // closed and replaced when order grows
	closed  bool
}

func newQueue() *queue {
	return &queue{
		waiting: map[schema.Key]bool{}, working: map[schema.Key]bool{}, timers: map[schema.Key]*time.Timer{},
		ready: make(chan struct{}),
	}
}

func (q *queue) add(keys ...schema.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range keys {
		q.addLocked(key)
	}
}

func (q *queue) addLocked(key schema.Key) {
	if _, busy := q.working[key]; busy {
		q.working[key] = true
		return
	}
	if q.waiting[key] || q.closed {
		return
	}
	q.waiting[key] = true
	q.order = append(q.order, key)
	close(q.ready)
	q.ready = make(chan struct{})
}

// addAfter adds a key when some time has passed. A later call for the same
// key replaces an earlier one.
func (q *queue) addAfter(key schema.Key, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if t := q.timers[key]; t != nil {
		t.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timers[key] == timer {
			delete(q.timers, key)
			q.addLocked(key)
		}
	})
	q.timers[key] = timer
}

// next blocks until there is a key; false when ctx ends.
func (q *queue) next(ctx context.Context) (schema.Key, bool) {
	for {
		q.mu.Lock()
		if len(q.order) > 0 && ctx.Err() == nil {
			key := q.order[0]
			q.order = q.order[1:]
			delete(q.waiting, key)
			q.working[key] = false
			q.mu.Unlock()
			return key, true
		}
		ready := q.ready
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return schema.Key{}, false
		case <-ready:
		}
	}
}

// done gives a key back that next handed out.
func (q *queue) done(key schema.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	again := q.working[key]
	delete(q.working, key)
	if again {
		q.addLocked(key)
	}
}

// close drops what waits and stops the timers.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for key, t := range q.timers {
		t.Stop()
		delete(q.timers, key)
	}
}
