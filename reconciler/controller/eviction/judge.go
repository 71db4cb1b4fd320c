package eviction

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

// notReadyAfter is how long a pod stays on a node that cannot run pods if it
// says nothing of that: the toleration that Kubernetes' admission plugin
// DefaultTolerationSeconds gives it.
const notReadyAfter = 300 * time.Second

// Scene is a node with all that decides whose time on it is over.
type Scene struct {
	Node    *corev1.Node
	Present bool          // its agent holds its lease
	Ready   bool          // and says that it can run pods
	Pods    []*corev1.Pod // bound to it
	Clocks  Clocks        // of all its NoExecute taints and all its pods
	Looking time.Duration // for how long this leader has been looking

	EvictAfter time.Duration // how long a pod stays on a node that is gone if it says nothing of that
}

// Eviction is the end of one pod's time on its node.
type Eviction struct {
	Pod   *corev1.Pod
	Taint corev1.Taint // that it does not tolerate, or no longer
	Gone  bool         // its node is: nobody there can end it
}

// Verdict is what becomes of the pods of a node.
type Verdict struct {
	Evict   []Eviction         // in the order of the pods
	Waiting map[types.UID]bool // pods that tolerate a taint for some more time; true for those that say so themselves
	Again   time.Duration      // when to judge again if nothing changes; 0 for never
}

// Judge decides who is to go now. What counts is each taint by itself: a pod
// goes when it has stood one for longer than it tolerates it.
func Judge(s Scene, now time.Time) Verdict {
	v := Verdict{Waiting: map[types.UID]bool{}}
	for _, pod := range s.Pods {
		if stays(pod) || isHeld(pod) {
			continue
		}
		due, next := s.standing(pod, now)
		switch {
		case due != nil:
			v.Evict = append(v.Evict, *due)
		case next != nil:
			v.Waiting[pod.UID] = next.stated
		}
		if next != nil && (v.Again == 0 || next.left < v.Again) {
			v.Again = next.left
		}
	}
	return v
}

// stays reports whether no taint ends a pod: its end changes nothing on the
// node.
func stays(pod *corev1.Pod) bool {
	finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return finished && pod.DeletionTimestamp == nil || pod.Annotations[schema.MirrorAnnotation] != ""
}

// isHeld reports whether a pod has ended but for its finalizers, which are
// others' to take away.
func isHeld(pod *corev1.Pod) bool {
	grace := pod.DeletionGracePeriodSeconds
	return pod.DeletionTimestamp != nil && len(pod.Finalizers) > 0 && grace != nil && *grace == 0
}

// wait is the shortest time that a pod still tolerates one of the taints.
type wait struct {
	left   time.Duration
	stated bool // by the pod
}

// standing is how a pod stands with the taints of its node: to go now, or
// later, or neither. One that is ending goes only with its node.
func (s Scene) standing(pod *corev1.Pod, now time.Time) (due *Eviction, next *wait) {
	for i := range s.Node.Spec.Taints {
		taint := &s.Node.Spec.Taints[i]
		gone := taint.Key == corev1.TaintNodeUnreachable
		if !s.holds(taint) || pod.DeletionTimestamp != nil && !gone {
			continue
		}
		after, stated, forever := s.patience(pod, taint)
		if forever {
			continue
		}
		left := s.left(after, pod, taint, now)
		switch {
		case left <= 0 && (due == nil || gone):
			due = &Eviction{Pod: pod, Taint: *taint, Gone: gone}
		case left > 0 && (next == nil || left < next.left):
			next = &wait{left: left, stated: stated}
		}
	}
	return due, next
}

// holds reports whether a taint is one that ends pods. What is said of a node
// that is back, or ready again, is about to be taken back.
func (s Scene) holds(taint *corev1.Taint) bool {
	switch {
	case taint.Effect != corev1.TaintEffectNoExecute:
		return false
	case taint.Key == corev1.TaintNodeUnreachable:
		return !s.Present
	case taint.Key == corev1.TaintNodeNotReady:
		return s.Present && !s.Ready
	}
	return true
}

// patience is how long a pod tolerates a taint. As in Kubernetes the first of
// its tolerations that matches counts.
func (s Scene) patience(pod *corev1.Pod, taint *corev1.Taint) (after time.Duration, stated, forever bool) {
	for _, t := range pod.Spec.Tolerations {
		if !schema.Tolerates(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return 0, true, true
		}
		return seconds(*t.TolerationSeconds), true, false
	}
	switch taint.Key {
	case corev1.TaintNodeUnreachable:
		return s.EvictAfter, false, false
	case corev1.TaintNodeNotReady:
		return notReadyAfter, false, false
	}
	return 0, false, false
}

func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), math.MaxInt64/int64(time.Second))) * time.Second
}

// left is how much of a pod's patience is left. That a node is gone, or not
// ready, no leader takes from an earlier one: it looks for EvictAfter itself, in
// which the taint may be taken back.
func (s Scene) left(after time.Duration, pod *corev1.Pod, taint *corev1.Taint, now time.Time) time.Duration {
	left := after - s.Clocks.elapsed(pod, taint, now)
	if taint.Key == corev1.TaintNodeUnreachable || taint.Key == corev1.TaintNodeNotReady {
		left = max(left, s.EvictAfter-s.Looking)
	}
	return left
}
