package probe

import "time"

// Schedule says when attempts are made and how many in a row count. Zero
// values are Kubernetes' defaults: 10 s, 1 and 3; and no initial delay.
type Schedule struct {
	InitialDelay     time.Duration // after the container's start
	Period           time.Duration
	SuccessThreshold int
	FailureThreshold int
}

func (s Schedule) withDefaults() Schedule {
	if s.Period <= 0 {
		s.Period = 10 * time.Second
	}
	if s.SuccessThreshold <= 0 {
		s.SuccessThreshold = 1
	}
	if s.FailureThreshold <= 0 {
		s.FailureThreshold = 3
	}
	return s
}

// Counter turns attempts into a state: it changes only after enough equal
// results in a row. It has no clock. Make one with NewCounter for each start
// of a container. Not safe to call at once.
type Counter struct {
	schedule Schedule
	first    time.Time // no attempt before
	last     time.Time // of the last attempt
	state    Result
	latest   Result
	run      int // attempts in a row with the latest result
}

// NewCounter begins at a container's start in a state: Failure for readiness
// and startup, Success for liveness, or the state that was known before the
// agent was restarted.
func NewCounter(s Schedule, started time.Time, initial Result) *Counter {
	s = s.withDefaults()
	return &Counter{schedule: s, first: started.Add(s.InitialDelay), state: initial}
}

// State is what the attempts so far say.
func (c *Counter) State() Result { return c.state }

// Next is when an attempt is due, seen at a time: not before that.
func (c *Counter) Next(now time.Time) time.Time {
	next := c.first
	if !c.last.IsZero() {
		next = c.last.Add(c.schedule.Period)
	}
	if next.Before(now) {
		return now
	}
	return next
}

// Observe counts an attempt that was begun at a time, and reports whether the
// state has changed or, for Failure, has been reached again: then the count
// begins anew. Unknown counts for nothing.
func (c *Counter) Observe(at time.Time, result Result) (decided bool) {
	c.last = at
	if result == Unknown {
		return false
	}
	if result != c.latest {
		c.latest, c.run = result, 0
	}
	c.run++
	threshold := c.schedule.SuccessThreshold
	if result == Failure {
		threshold = c.schedule.FailureThreshold
	}
	if c.run < threshold {
		return false
	}
	decided = c.state != result || result == Failure
	c.state = result
	if result == Failure {
		c.run = 0
	}
	return decided
}
