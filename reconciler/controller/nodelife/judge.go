package nodelife

import (
	"maps"
	"slices"
	"time"
)

// Vital is what is known of a node that has reported at least once.
type Vital struct {
	Present bool      // its agent holds its lease
	Since   time.Time // not present since, by our own clock and for as long as we watch
	Evicted bool      // its pods were removed, and it has not been back since
	New     bool      // it was not seen present since we watch: it may be about to come
}

// Verdict is which nodes' pods are to be removed.
type Verdict struct {
	Evict []string      // sorted
	Held  bool          // nobody is evicted: too many are gone at once to believe it
	Again time.Duration // when to judge again if nothing changes; 0 for never
}

// Judge decides who has been gone for long enough. Of the nodes that were
// there until now, not all may be gone, nor more than half of three or more: a
// fault that takes most of a cluster at once is more likely ours than theirs.
func Judge(nodes map[string]Vital, now time.Time, evictAfter time.Duration) Verdict {
	var v Verdict
	present, missing := 0, 0
	for _, n := range nodes {
		switch {
		case n.Present:
			present++
		case !n.Evicted:
			missing++
		}
	}
	total := present + missing
	v.Held = missing > 0 && (present == 0 || total >= 3 && 2*missing > total)
	if v.Held {
		return v
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[name]
		if n.Present {
			continue
		}
		if left := evictAfter - now.Sub(n.Since); left > 0 {
			v.Again = soonest(v.Again, left)
			continue
		}
		v.Evict = append(v.Evict, name)
	}
	return v
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
