package nodelife

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Vital is what is known of a node that has reported at least once.
type Vital struct {
	Present bool      // its agent holds its lease
	Ready   bool      // and says that it can run pods
	Since   time.Time // not present since, by our own clock and for as long as we watch
	Lost    bool      // it was given up: gone for so long that pods have left it, and not back since
	New     bool      // it was not seen present since we watch
	Coming  bool      // it was made while we watch: its agent may be about to take its lease
	Taint   string    // the key of the taint of health that it has, or ""
}

// Verdict is how nodes are to be tainted for their health.
type Verdict struct {
	Taints map[string]string // by node: the key of its taint; nodes that are well are not in it
	Lost   []string          // nodes that are to be given up
	Held   bool              // nobody is said to be gone: too many are at once to believe it
	Again  time.Duration     // when to judge again if nothing changes; 0 for never
}

// Judge decides which nodes are gone and which cannot run pods. Of the nodes
// that were there until now, not all may be gone, nor more than half of three or
// more: a fault that takes most of a cluster at once is more likely ours than
// theirs. Nor is a node said to be unable where most are: no other could take
// its pods.
func Judge(nodes map[string]Vital, now time.Time, evictAfter time.Duration) Verdict {
	v := Verdict{Taints: map[string]string{}}
	well, ill, missing := count(nodes, now, evictAfter)
	present := well + ill
	if v.Held = missing > 0 && tooMany(missing, present); v.Held {
		return v
	}
	mayBeIll := !tooMany(ill+missing, well)
	for name, n := range nodes {
		left := evictAfter - now.Sub(n.Since)
		switch {
		case n.Present && (n.Ready || !mayBeIll):
		case n.Present:
			v.Taints[name] = corev1.TaintNodeNotReady
		case n.Coming && left > 0:
			v.Again = soonest(v.Again, left)
		default:
			v.Taints[name] = corev1.TaintNodeUnreachable
			if !n.Lost && left <= 0 {
				v.Lost = append(v.Lost, name)
			} else if !n.Lost {
				v.Again = soonest(v.Again, left)
			}
		}
	}
	return v
}

// count counts the nodes that are there and ready, those that are not ready,
// and those that are gone and were not given up. One that is about to come is
// none of them.
func count(nodes map[string]Vital, now time.Time, evictAfter time.Duration) (well, ill, missing int) {
	for _, n := range nodes {
		switch {
		case n.Present && n.Ready:
			well++
		case n.Present:
			ill++
		case !n.Lost && (!n.Coming || now.Sub(n.Since) >= evictAfter):
			missing++
		}
	}
	return well, ill, missing
}

// tooMany reports whether so many are out, beside those that are left, that it
// is not believed of any.
func tooMany(out, left int) bool {
	total := out + left
	return left == 0 || total >= 3 && 2*out > total
}

func soonest(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
