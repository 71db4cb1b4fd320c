package binder

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func (b binder) volume(ctx context.Context, v *corev1.PersistentVolume) error {
	claim := b.claimOf(v)
	switch {
	case v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, volumeProtection) && claim == nil:
		return b.changeVolume(ctx, v, func(v *corev1.PersistentVolume) {
			v.Finalizers = slices.DeleteFunc(v.Finalizers, func(f string) bool { return f == volumeProtection })
		})
	case claim != nil && claim.Spec.VolumeName != "" && claim.Spec.VolumeName != v.Name:
		return b.changeVolume(ctx, v, unbind)
	}
	phase, reason, message := standing(v, claim)
	if phase == v.Status.Phase && message == v.Status.Message {
		return nil
	}
	if phase == corev1.VolumeFailed {
		b.Recorder.Event(v, corev1.EventTypeWarning, reason, message)
	}
	changed := *v
	changed.Status = corev1.PersistentVolumeStatus{Phase: phase, Reason: reason, Message: message, LastPhaseTransitionTime: &metav1.Time{Time: now()}}
	if _, err := b.Writer.Commit(ctx, registry.Write{UpdateStatus: &changed}); err != nil {
		return fmt.Errorf("status of %s: %w", schema.KeyOf(v), err)
	}
	return nil
}

// claimOf is the claim that has a volume, or is about to; nil if it is gone.
func (b binder) claimOf(v *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	ref := v.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil
	}
	claim, _ := registry.GetOf[*corev1.PersistentVolumeClaim](b.Writer.Mirror, schema.PersistentVolumeClaims, ref.Namespace, ref.Name)
	if claim == nil || claim.UID != ref.UID {
		return nil
	}
	return claim
}

// standing is the phase of a volume, whose claim may be gone.
func standing(v *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) (phase corev1.PersistentVolumePhase, reason, message string) {
	switch {
	case v.Spec.ClaimRef == nil || v.Spec.ClaimRef.UID == "":
		return corev1.VolumeAvailable, "", ""
	case claim == nil && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return corev1.VolumeFailed, "VolumeFailedDelete", "nothing here deletes what lies on a machine: remove the data there, then this volume, or take away its claimRef to use it again"
	case claim == nil:
		return corev1.VolumeReleased, "", ""
	case claim.Spec.VolumeName == v.Name:
		return corev1.VolumeBound, "", ""
	}
	return v.Status.Phase, v.Status.Reason, v.Status.Message
}

// unbind takes back what the binder wrote; a claim that a person named stays
// named.
func unbind(v *corev1.PersistentVolume) {
	if v.Annotations[volumes.BoundByController] != "" {
		delete(v.Annotations, volumes.BoundByController)
		v.Spec.ClaimRef = nil
		return
	}
	v.Spec.ClaimRef.UID, v.Spec.ClaimRef.ResourceVersion = "", ""
}

func (b binder) changeVolume(ctx context.Context, v *corev1.PersistentVolume, change func(*corev1.PersistentVolume)) error {
	changed := v.DeepCopy()
	change(changed)
	if _, err := b.Writer.Commit(ctx, registry.Write{Update: changed}); err != nil {
		return fmt.Errorf("change %s: %w", schema.KeyOf(v), err)
	}
	return nil
}
