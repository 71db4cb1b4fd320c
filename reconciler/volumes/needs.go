package volumes

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// View is where claims, volumes and classes are looked up. What is not there
// is nil.
type View struct {
	Claim   func(namespace, name string) *corev1.PersistentVolumeClaim
	Volume  func(name string) *corev1.PersistentVolume
	Volumes func() []*corev1.PersistentVolume
	Class   func(name string) *storagev1.StorageClass
}

// Needs is what the claims of a pod ask of its node.
type Needs struct {
	// Missing says why the pod can run nowhere yet, "" if it can.
	Missing string
	// Waiting are claims that get a volume where the pod will run.
	Waiting []*corev1.PersistentVolumeClaim

	bound []*corev1.PersistentVolume
	free  []*corev1.PersistentVolume
}

// NeedsOf returns what a pod's claims ask, nil if it has none.
func NeedsOf(pod *corev1.Pod, view View) *Needs {
	var n *Needs
	for i := range pod.Spec.Volumes {
		name := ClaimName(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		if n == nil {
			n = &Needs{}
		}
		n.add(pod, &pod.Spec.Volumes[i], view)
	}
	if n != nil && len(n.Waiting) > 0 {
		n.free = view.Volumes()
		slices.SortStableFunc(n.Waiting, func(a, b *corev1.PersistentVolumeClaim) int {
			size := a.Spec.Resources.Requests[corev1.ResourceStorage]
			return size.Cmp(b.Spec.Resources.Requests[corev1.ResourceStorage])
		})
	}
	return n
}

// ClaimName is the claim that is a volume of a pod, "" for a volume of
// another kind.
func ClaimName(pod *corev1.Pod, volume *corev1.Volume) string {
	switch {
	case volume.PersistentVolumeClaim != nil:
		return volume.PersistentVolumeClaim.ClaimName
	case volume.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, volume)
	}
	return ""
}

func (n *Needs) add(pod *corev1.Pod, volume *corev1.Volume, view View) {
	name := ClaimName(pod, volume)
	claim := view.Claim(pod.Namespace, name)
	if volume.Ephemeral != nil && claim != nil {
		if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
			n.Missing = err.Error()
			return
		}
	}
	switch {
	case claim == nil && volume.Ephemeral != nil:
		n.Missing = fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
	case claim == nil:
		n.Missing = fmt.Sprintf("persistentvolumeclaim %q not found", name)
	case claim.DeletionTimestamp != nil:
		n.Missing = fmt.Sprintf("persistentvolumeclaim %q is being deleted", name)
	case claim.Status.Phase == corev1.ClaimLost:
		n.Missing = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
	case claim.Spec.VolumeName == "" && WaitsForConsumer(view.Class(ClassOf(claim))):
		n.Waiting = append(n.Waiting, claim)
	case claim.Spec.VolumeName == "" || claim.Annotations[BindCompleted] == "":
		n.Missing = "pod has unbound immediate PersistentVolumeClaims"
	default:
		v := view.Volume(claim.Spec.VolumeName)
		if v == nil {
			n.Missing = fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
			return
		}
		n.bound = append(n.bound, v)
	}
}

// On says why the volumes cannot be had on a node, in the words of
// Kubernetes' scheduler; "" if they can.
func (n *Needs) On(node *corev1.Node) string {
	for _, v := range n.bound {
		if !Reaches(v, node) {
			return "node(s) didn't match PersistentVolume's node affinity"
		}
	}
	taken := map[string]bool{}
	for _, claim := range n.Waiting {
		if chosen := claim.Annotations[SelectedNode]; chosen != "" && chosen != node.Name {
			return "node(s) didn't match the node selected for a claim"
		}
		v := Choice{Volumes: n.free, Node: node, Taken: taken}.Match(claim)
		if v == nil {
			return "node(s) didn't find available persistent volumes to bind"
		}
		taken[v.Name] = true
	}
	return ""
}
