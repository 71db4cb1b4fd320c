// Package volumes decides which persistent volume a claim gets, and on which
// nodes a pod can have the volumes that it claims. The rules are those of
// Kubernetes' persistent volume controller and of its scheduler's volume
// binding.
//
// The binder and the scheduler call it. It takes values and returns values; it
// writes nothing.
package volumes

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Annotations by which Kubernetes' tools know how far a claim is.
const (
	SelectedNode      = "volume.kubernetes.io/selected-node"          // on a claim, by the scheduler: where its first pod will run
	BindCompleted     = "pv.kubernetes.io/bind-completed"             // on a claim
	BoundByController = "pv.kubernetes.io/bound-by-controller"        // on a claim or volume that did not name the other itself
	DefaultClass      = "storageclass.kubernetes.io/is-default-class" // on a class
)

// Choice is the volumes that a claim may get, and which of them not.
type Choice struct {
	Volumes []*corev1.PersistentVolume
	Node    *corev1.Node    // nil: it need not be reached from a certain node
	Taken   map[string]bool // names of volumes that others get
	Waits   bool            // only a volume that is promised to the claim will do
}

// Match returns the volume for a claim: one that is promised to it, or the
// smallest of those that have what it asks for; nil if there is none.
func (c Choice) Match(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	var best *corev1.PersistentVolume
	for _, v := range c.Volumes {
		reached := c.Node == nil || Reaches(v, c.Node)
		if c.Taken[v.Name] || v.DeletionTimestamp != nil || !reached || smaller(v, claim) {
			continue
		}
		if Promised(v, claim) {
			return v
		}
		free := v.Spec.ClaimRef == nil && v.Status.Phase == corev1.VolumeAvailable
		if c.Waits || !free || Mismatch(v, claim) != "" || !selects(claim, v) {
			continue
		}
		if best == nil || before(v, best) {
			best = v
		}
	}
	return best
}

func before(a, b *corev1.PersistentVolume) bool {
	size := a.Spec.Capacity[corev1.ResourceStorage]
	if c := size.Cmp(b.Spec.Capacity[corev1.ResourceStorage]); c != 0 {
		return c < 0
	}
	return a.Name < b.Name
}

func smaller(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	size := v.Spec.Capacity[corev1.ResourceStorage]
	return size.Cmp(claim.Spec.Resources.Requests[corev1.ResourceStorage]) < 0
}

// Mismatch says what of a volume is not as the claim asks, "" if nothing is.
func Mismatch(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) string {
	switch {
	case smaller(v, claim):
		return "requested PV is too small"
	case v.Spec.StorageClassName != ClassOf(claim):
		return "storageClassName does not match"
	case mode(v.Spec.VolumeMode) != mode(claim.Spec.VolumeMode):
		return "incompatible volumeMode"
	}
	for _, m := range claim.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return "incompatible accessMode"
		}
	}
	return ""
}

func mode(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}

func selects(claim *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	if claim.Spec.Selector == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(claim.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(v.Labels))
}

// Promised reports whether a volume is for this claim and no other.
func Promised(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	ref := v.Spec.ClaimRef
	return ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name && (ref.UID == "" || ref.UID == claim.UID)
}

// Reaches reports whether a volume can be had on a node.
func Reaches(v *corev1.PersistentVolume, node *corev1.Node) bool {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return true
	}
	selector, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	return err == nil && selector.Match(node)
}

// ClassOf is the class that a claim names, "" for none.
func ClassOf(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

// WaitsForConsumer reports whether claims of a class are bound only where a
// pod is to run; class may be nil.
func WaitsForConsumer(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// Default returns the class of claims that name none: the newest of those that
// say so, or nil.
func Default(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, c := range classes {
		newer := best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name
		if c.Annotations[DefaultClass] == "true" && newer {
			best = c
		}
	}
	return best
}
