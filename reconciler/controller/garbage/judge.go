package garbage

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// How many finished pods are kept, for people to look at.
const (
	KeepFinished      = 500 // in all
	KeepFinishedOfOne = 1   // of one controller
)

// orphanAfter is how long a node must have been deleted before the pods that
// were bound to it are: its agent may be about to register it again.
const orphanAfter = 40 * time.Second

// Fate is what is to become of a pod.
type Fate int

// The fates, from none to the most sudden.
const (
	Keep   Fate = iota
	Wait        // for its node to come back: judge again
	Remove      // at once: nothing of it runs
)

// Facts is what decides the fate of a pod.
type Facts struct {
	Pod        *corev1.Pod
	NodeExists bool          // there is an object of the node that it is bound to
	NodeGone   time.Duration // how long there has been none
}

// Judge decides the fate of one pod.
func Judge(f Facts) Fate {
	pod := f.Pod
	bound := pod.Spec.NodeName != ""
	switch {
	case pod.DeletionTimestamp != nil && pod.Annotations[schema.StoppedAnnotation] == string(pod.UID):
		return Remove
	case pod.DeletionTimestamp != nil && bound && !f.NodeExists:
		return Remove
	case pod.DeletionTimestamp != nil:
		return Keep
	case bound && !f.NodeExists && placed(pod):
		if f.NodeGone >= orphanAfter {
			return Remove
		}
		return Wait
	}
	return Keep
}

// placed: another node would do, since it was not its creator who chose.
func placed(pod *corev1.Pod) bool {
	if metav1.GetControllerOfNoCopy(pod) != nil {
		return true
	}
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
	})
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Surplus returns the oldest of the finished pods, beyond those to be kept.
// Pods that are on their way out neither count nor are returned.
func Surplus(pods []*corev1.Pod, keep int) []*corev1.Pod {
	var over []*corev1.Pod
	for _, pod := range pods {
		if finished(pod) && pod.DeletionTimestamp == nil {
			over = append(over, pod)
		}
	}
	if len(over) <= keep {
		return nil
	}
	slices.SortFunc(over, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return over[:len(over)-keep]
}
