package replication

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Plan is what is to be done for one replication controller.
type Plan struct {
	Create  int           // pods to make
	Delete  []*corev1.Pod // owned pods too many, the least useful first
	Adopt   []*corev1.Pod // pods that match and that nobody owns
	Release []*corev1.Pod // owned pods that match no more
	Status  corev1.ReplicationControllerStatus
	Again   time.Duration // when a pod will have been ready long enough; 0 for never
}

// Done reports whether there is nothing to do but to report the status.
func (p Plan) Done() bool {
	return p.Create == 0 && len(p.Delete) == 0 && len(p.Adopt) == 0 && len(p.Release) == 0
}

// Compute decides for a replication controller by Kubernetes' rules. pods may
// hold any pods of its namespace; all that it owns, and all that nobody owns,
// must be among them. Adopted pods count as owned at once. The status is that
// of the pods given, with the conditions that rc had.
func Compute(rc *corev1.ReplicationController, pods []*corev1.Pod, now time.Time) Plan {
	var plan Plan
	var owned []*corev1.Pod
	for _, pod := range pods {
		if !isActive(pod) {
			continue
		}
		owner := metav1.GetControllerOfNoCopy(pod)
		matches := selects(rc, pod)
		switch {
		case owner == nil && matches && rc.DeletionTimestamp == nil:
			plan.Adopt = append(plan.Adopt, pod)
			owned = append(owned, pod)
		case owner == nil || owner.UID != rc.UID:
		case matches:
			owned = append(owned, pod)
		default:
			plan.Release = append(plan.Release, pod)
		}
	}
	plan.Status, plan.Again = statusOf(rc, owned, now)
	if rc.DeletionTimestamp != nil {
		return plan
	}
	want := int(replicasOf(rc))
	plan.Create = max(0, want-len(owned))
	if tooMany := len(owned) - want; tooMany > 0 {
		plan.Delete = leastUseful(owned)[:tooMany]
	}
	return plan
}

// replicasOf is 1 where nothing is said, as Kubernetes' default has it.
func replicasOf(rc *corev1.ReplicationController) int32 {
	if rc.Spec.Replicas == nil {
		return 1
	}
	return max(0, *rc.Spec.Replicas)
}

// isActive: runs or may still run, and nobody has told it to end.
func isActive(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed && pod.DeletionTimestamp == nil
}

// selects: an empty selector, which validation refuses, selects nothing.
func selects(rc *corev1.ReplicationController, pod *corev1.Pod) bool {
	if rc.Namespace != pod.Namespace || len(rc.Spec.Selector) == 0 {
		return false
	}
	return hasLabels(pod, rc.Spec.Selector)
}

func hasLabels(pod *corev1.Pod, want map[string]string) bool {
	for k, v := range want {
		if have, ok := pod.Labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

func statusOf(rc *corev1.ReplicationController, owned []*corev1.Pod, now time.Time) (status corev1.ReplicationControllerStatus, again time.Duration) {
	status = corev1.ReplicationControllerStatus{
		Replicas: int32(len(owned)), ObservedGeneration: rc.Generation, Conditions: rc.Status.Conditions,
	}
	for _, pod := range owned {
		if rc.Spec.Template != nil && hasLabels(pod, rc.Spec.Template.Labels) {
			status.FullyLabeledReplicas++
		}
		since, ready := readySince(pod)
		if !ready {
			continue
		}
		status.ReadyReplicas++
		left := time.Duration(rc.Spec.MinReadySeconds)*time.Second - now.Sub(since)
		switch {
		case rc.Spec.MinReadySeconds == 0 || left <= 0:
			status.AvailableReplicas++
		case again == 0 || left < again:
			again = left
		}
	}
	return status, again
}

func readySince(pod *corev1.Pod) (time.Time, bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// NewPod returns the pod that a replication controller asks for, still without
// a name of its own.
func NewPod(rc *corev1.ReplicationController) *corev1.Pod {
	template := rc.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rc.Namespace, GenerateName: rc.Name + "-",
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{ownerReference(rc)},
		},
		Spec: template.Spec,
	}
}

func ownerReference(rc *corev1.ReplicationController) metav1.OwnerReference {
	return *metav1.NewControllerRef(rc, schema.ReplicationControllers.GVK)
}

// adopted is the pod with the controller as its owner.
func adopted(pod *corev1.Pod, rc *corev1.ReplicationController) *corev1.Pod {
	out := pod.DeepCopy()
	out.OwnerReferences = append(out.OwnerReferences, ownerReference(rc))
	return out
}

// released is the pod without it.
func released(pod *corev1.Pod, rc *corev1.ReplicationController) *corev1.Pod {
	out := pod.DeepCopy()
	out.OwnerReferences = slices.DeleteFunc(out.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == rc.UID })
	return out
}
