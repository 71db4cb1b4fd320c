package registry

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// initStatus drops any status that came with a new object and sets the one
// that its kind begins with.
func initStatus(obj schema.Object, now metav1.Time) {
	switch o := obj.(type) {
	case *corev1.Pod:
		o.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: schema.QOSClass(o)}
	case *corev1.ReplicationController:
		o.Status = corev1.ReplicationControllerStatus{}
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
	case *corev1.Node:
		o.Status = corev1.NodeStatus{}
	case *corev1.PersistentVolume:
		o.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
	case *corev1.PersistentVolumeClaim:
		o.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	case *corev1.Namespace:
		o.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
		if !slices.Contains(o.Spec.Finalizers, corev1.FinalizerKubernetes) {
			o.Spec.Finalizers = append(o.Spec.Finalizers, corev1.FinalizerKubernetes)
		}
	}
}

// setStatus copies the status of an object of the same kind.
func setStatus(dst, src schema.Object) {
	switch d := dst.(type) {
	case *corev1.Pod:
		src.(*corev1.Pod).Status.DeepCopyInto(&d.Status)
	case *corev1.ReplicationController:
		src.(*corev1.ReplicationController).Status.DeepCopyInto(&d.Status)
	case *corev1.Service:
		src.(*corev1.Service).Status.DeepCopyInto(&d.Status)
	case *corev1.Node:
		src.(*corev1.Node).Status.DeepCopyInto(&d.Status)
	case *corev1.PersistentVolume:
		src.(*corev1.PersistentVolume).Status.DeepCopyInto(&d.Status)
	case *corev1.PersistentVolumeClaim:
		src.(*corev1.PersistentVolumeClaim).Status.DeepCopyInto(&d.Status)
	case *corev1.Namespace:
		src.(*corev1.Namespace).Status.DeepCopyInto(&d.Status)
	}
}

// takeStatus copies the status that an update of it brings, and the managed
// fields. The status of a bound pod, and of a node, is its agent's: of these
// it keeps the conditions that are others' to set.
func takeStatus(dst, given schema.Object) {
	if fields := given.GetManagedFields(); fields != nil {
		dst.SetManagedFields(fields)
	}
	switch d := dst.(type) {
	case *corev1.Pod:
		if d.Spec.NodeName != "" {
			own := slices.DeleteFunc(d.Status.Conditions, func(c corev1.PodCondition) bool { return !agentSaysOfPod[c.Type] })
			d.Status.Conditions = append(own, slices.DeleteFunc(slices.Clone(given.(*corev1.Pod).Status.Conditions),
				func(c corev1.PodCondition) bool { return agentSaysOfPod[c.Type] })...)
			return
		}
	case *corev1.Node:
		d.Status.Conditions = slices.DeleteFunc(slices.Clone(given.(*corev1.Node).Status.Conditions),
			func(c corev1.NodeCondition) bool { return agentSaysOfNode[c.Type] })
		return
	}
	setStatus(dst, given)
}

// The conditions that an agent alone sets once a pod is bound, and of its
// node.
var (
	agentSaysOfPod = map[corev1.PodConditionType]bool{
		corev1.PodScheduled: true, corev1.PodReadyToStartContainers: true, corev1.PodInitialized: true, corev1.ContainersReady: true, corev1.PodReady: true,
	}
	agentSaysOfNode = map[corev1.NodeConditionType]bool{
		corev1.NodeReady: true, corev1.NodeMemoryPressure: true, corev1.NodeDiskPressure: true, corev1.NodePIDPressure: true, corev1.NodeNetworkUnavailable: true,
	}
)

// withOthers returns an agent's conditions with those that are others' to
// set, and with what it has not said yet.
func withOthers(agents, own []corev1.PodCondition) []corev1.PodCondition {
	for _, c := range own {
		i := slices.IndexFunc(agents, func(a corev1.PodCondition) bool { return a.Type == c.Type })
		switch {
		case i < 0:
			agents = append(slices.Clip(agents), c)
		case !agentSaysOfPod[c.Type]:
			agents = slices.Clone(agents)
			agents[i] = c
		}
	}
	return agents
}
