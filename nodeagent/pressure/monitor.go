package pressure

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Observation is how much there is of something, and how much there could be.
type Observation struct{ Available, Capacity int64 }

// Observations are what is known now. What is not known is left out: no
// threshold is met by it.
type Observations map[Signal]Observation

// Verdict is what observations come to.
type Verdict struct {
	Conditions []corev1.NodeConditionType // true of the node, sorted
	Act        []Threshold                // must be acted upon, in order of urgency
}

// Monitor judges observations one after the other. It is for one goroutine.
type Monitor struct {
	thresholds []Threshold
	transition time.Duration
	since      map[int]time.Time                      // by threshold: met since
	last       map[corev1.NodeConditionType]time.Time // when it was last true
	acting     map[int]bool                           // thresholds that were to be acted upon the last time
}

// NewMonitor returns a Monitor that goes on reporting a condition for a
// transition period after it was last so.
func NewMonitor(thresholds []Threshold, transition time.Duration) *Monitor {
	return &Monitor{thresholds: thresholds, transition: transition, since: map[int]time.Time{}, last: map[corev1.NodeConditionType]time.Time{}, acting: map[int]bool{}}
}

// Look takes observations in.
func (m *Monitor) Look(o Observations, now time.Time) Verdict {
	since, acting := map[int]time.Time{}, map[int]bool{}
	var v Verdict
	for i, t := range m.thresholds {
		if !t.met(o, false) && !(m.acting[i] && t.met(o, true)) {
			continue
		}
		since[i] = now
		if began, ok := m.since[i]; ok {
			since[i] = began
		}
		m.last[signals[t.Signal].condition] = now
		if now.Sub(since[i]) >= t.Grace {
			acting[i] = true
			v.Act = append(v.Act, t)
		}
	}
	m.since, m.acting = since, acting
	for condition, last := range m.last {
		if now.Sub(last) < m.transition || last.Equal(now) {
			v.Conditions = append(v.Conditions, condition)
		} else {
			delete(m.last, condition)
		}
	}
	slices.Sort(v.Conditions)
	slices.SortStableFunc(v.Act, func(a, b Threshold) int { return urgency(a) - urgency(b) })
	return v
}

// Relieved reports whether, after something was reclaimed, no threshold is met
// any more, with what must be reclaimed at least.
func (m *Monitor) Relieved(o Observations) bool {
	return !slices.ContainsFunc(m.thresholds, func(t Threshold) bool { return t.met(o, true) })
}

// Kept is how much of something pods cannot ask for, because they would be
// evicted before they had it: what the hard threshold of a signal keeps free.
func Kept(thresholds []Threshold, s Signal, capacity int64) int64 {
	for _, t := range thresholds {
		if t.Signal == s && t.Grace == 0 {
			return min(capacity, t.least(capacity, false))
		}
	}
	return 0
}

// urgency puts memory first; among the others, hard thresholds were given
// first.
func urgency(t Threshold) int {
	if t.Signal == MemoryAvailable {
		return 0
	}
	return 1
}

func (t Threshold) met(o Observations, withReclaim bool) bool {
	seen, known := o[t.Signal]
	if !known {
		return false
	}
	return seen.Available < t.least(seen.Capacity, withReclaim)
}

func (t Threshold) least(capacity int64, withReclaim bool) int64 {
	least := t.Amount.of(capacity)
	if withReclaim {
		least += t.MinReclaim.of(capacity)
	}
	return least
}
