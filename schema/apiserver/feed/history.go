package feed

import (
	"errors"
	"sort"
	"sync"
	"time"
)

// How many events a history keeps: all of the last moments, so that a burst
// closes no watcher, those of the last minute for whoever comes back, and a few
// whatever their age.
const (
	keepAlways  = 100
	keepRecent  = 1000
	recent      = 75 * time.Second
	keepMoments = 10000
	moments     = 10 * time.Second
)

// errBehind is the error of a watcher for which the history has gone on too
// far, or which began anew.
var errBehind = errors.New("watcher is too far behind")

// history is the last events of one kind, in order.
type history struct {
	mu     sync.Mutex
	events []*event
	first  int64         // number of events[0], counted from the beginning
	start  int64         // revision: everything after it is or was in events
	at     int64         // revision up to which the history is complete
	moved  chan struct{} // closed and replaced when there are new events, or the end
	ended  error         // why there is no more to come
}

func newHistory(start int64) *history {
	return &history{start: start, at: start, moved: make(chan struct{})}
}

// add takes in events, which reach up to a revision.
func (h *history) add(events []*event, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = max(h.at, revision)
	h.trimLocked()
	if len(events) == 0 {
		return
	}
	h.events = append(h.events, events...)
	h.wakeLocked()
}

func (h *history) wakeLocked() {
	close(h.moved)
	h.moved = make(chan struct{})
}

// trimLocked forgets what nobody should still want.
func (h *history) trimLocked() {
	n := 0
	now := time.Now()
	for left := len(h.events); left > keepAlways; left-- {
		age := now.Sub(h.events[n].time)
		if age < moments && left <= keepMoments || age < recent && left <= keepRecent {
			break
		}
		h.start = h.events[n].revision
		n++
	}
	if n == 0 {
		return
	}
	clear(h.events[:n])
	h.events = h.events[n:]
	h.first += int64(n)
}

// end ends the history: watchers get the error after what there is.
func (h *history) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		h.ended = err
		h.wakeLocked()
	}
}

// covers reports whether everything after a revision is here.
func (h *history) covers(revision int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended == nil && revision >= h.start
}

// after returns the number of the first event after a revision. It is errBehind
// if some of those are gone.
func (h *history) after(revision int64) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if revision < h.start {
		return 0, errBehind
	}
	i := sort.Search(len(h.events), func(i int) bool { return h.events[i].revision > revision })
	return h.first + int64(i), nil
}

// mostAtOnce bounds what next copies while the history is locked.
const mostAtOnce = 100

// next returns events from a number on, or what to wait for where there are
// none yet.
func (h *history) next(number int64) (events []*event, moved <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number < h.first {
		return nil, nil, errBehind
	}
	rest := h.events[number-h.first:]
	if len(rest) > 0 {
		return append([]*event(nil), rest[:min(len(rest), mostAtOnce)]...), nil, nil
	}
	return nil, h.moved, h.ended
}

// quiet returns the revision up to which there is no event from a number on;
// false if there is one.
func (h *history) quiet(number int64) (revision int64, quiet bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at, number == h.first+int64(len(h.events))
}
