package stats

import (
	"sync"
	"time"
)

const (
	// window is the least time over which a rate is taken once it can be.
	window = 10 * time.Second
	// stale is when a sample is too old to say what is used now.
	stale = time.Minute
	// quick is the time between two samples where there was none to compare
	// with.
	quick = 250 * time.Millisecond
)

// sample is a counter of CPU time at a moment.
type sample struct {
	at  time.Time
	cpu uint64 // ns
}

// rates turns counters into rates by the samples before.
type rates struct {
	mu   sync.Mutex
	last map[string]sample
}

// known reports whether there is a sample that a new one can be compared with.
func (r *rates) known(name string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.last[name]
	return ok && now.Sub(s.at) < stale && now.Sub(s.at) > 0
}

// of is how many ns of CPU a second are used; nil while that is not known. The
// sample is kept for later ones when that before is as old as the window.
func (r *rates) of(name string, s sample) *uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.last[name]
	age := s.at.Sub(before.at)
	if !ok || age >= window || s.cpu < before.cpu {
		if r.last == nil {
			r.last = map[string]sample{}
		}
		r.last[name] = s
	}
	if !ok || age <= 0 || age >= stale || s.cpu < before.cpu {
		return nil
	}
	rate := uint64(float64(s.cpu-before.cpu) / age.Seconds())
	return &rate
}

// keep forgets all but the named.
func (r *rates) keep(names map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.last {
		if !names[name] {
			delete(r.last, name)
		}
	}
}
