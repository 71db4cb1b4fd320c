package binder

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// The finalizers of Kubernetes' storage protection: a claim is not removed
// while a pod uses it, a volume not while a claim has it.
const (
	claimProtection  = "kubernetes.io/pvc-protection"
	volumeProtection = "kubernetes.io/pv-protection"
)

func (b binder) claim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.DeletionTimestamp != nil {
		return b.releaseClaim(ctx, claim)
	}
	if claim.Spec.StorageClassName == nil && claim.Spec.VolumeName == "" {
		class := volumes.Default(registry.ListOf[*storagev1.StorageClass](b.Writer.Mirror, schema.StorageClasses, ""))
		if class != nil {
			return b.change(ctx, claim, func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &class.Name })
		}
	}
	if claim.Spec.VolumeName == "" {
		return b.find(ctx, claim)
	}
	volume, _ := registry.GetOf[*corev1.PersistentVolume](b.Writer.Mirror, schema.PersistentVolumes, "", claim.Spec.VolumeName)
	completed := claim.Annotations[volumes.BindCompleted] != ""
	switch {
	case volume != nil && completed && volume.Spec.ClaimRef != nil && volume.Spec.ClaimRef.UID == claim.UID:
		return b.say(ctx, claim, boundStatus(claim, volume))
	case completed && (volume == nil || volume.Spec.ClaimRef != nil && !volumes.Promised(volume, claim)):
		return b.lost(ctx, claim)
	case volume == nil:
		return nil
	case volume.Spec.ClaimRef == nil && !completed && volumes.Mismatch(volume, claim) != "":
		b.Recorder.Event(claim, corev1.EventTypeWarning, "VolumeMismatch",
			fmt.Sprintf("Cannot bind to requested volume %q: %s", volume.Name, volumes.Mismatch(volume, claim)))
		return nil
	case volume.Spec.ClaimRef == nil || volumes.Promised(volume, claim):
		return b.bind(ctx, claim, volume)
	}
	b.Recorder.Event(claim, corev1.EventTypeWarning, "FailedBinding", fmt.Sprintf("volume %q already bound to a different claim.", volume.Name))
	return nil
}

// find looks for a volume for a claim that names none.
func (b binder) find(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	choice := volumes.Choice{Volumes: b.volumes()}
	selected := claim.Annotations[volumes.SelectedNode]
	waits := volumes.WaitsForConsumer(b.class(volumes.ClassOf(claim)))
	if selected != "" {
		choice.Node, _ = registry.GetOf[*corev1.Node](b.Writer.Mirror, schema.Nodes, "", selected)
	}
	choice.Waits = waits && choice.Node == nil
	volume := choice.Match(claim)
	switch {
	case volume != nil:
		return b.bind(ctx, claim, volume)
	case waits && selected != "": // let the scheduler choose again
		return b.change(ctx, claim, func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, volumes.SelectedNode) })
	case waits:
		b.Recorder.Event(claim, corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case volumes.ClassOf(claim) == "":
		b.Recorder.Event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim and no storage class is set")
	default:
		b.Recorder.Event(claim, corev1.EventTypeNormal, "FailedBinding", "no persistent volumes available for this claim")
	}
	return nil
}

// bind has volume and claim name each other, in one transaction. Their
// statuses follow when the change is seen.
func (b binder) bind(ctx context.Context, claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) error {
	c, v := claim.DeepCopy(), volume.DeepCopy()
	if v.Spec.ClaimRef == nil {
		setAnnotation(&v.Annotations, volumes.BoundByController)
	}
	v.Spec.ClaimRef = &corev1.ObjectReference{
		APIVersion: "v1", Kind: schema.PersistentVolumeClaims.GVK.Kind, Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion,
	}
	v.Finalizers = with(v.Finalizers, volumeProtection)
	if c.Spec.VolumeName == "" {
		setAnnotation(&c.Annotations, volumes.BoundByController)
	}
	setAnnotation(&c.Annotations, volumes.BindCompleted)
	c.Spec.VolumeName = v.Name
	c.Finalizers = with(c.Finalizers, claimProtection)
	if _, err := b.Writer.Commit(ctx, registry.Write{Update: v}, registry.Write{Update: c}); err != nil {
		return fmt.Errorf("bind %s to %s: %w", schema.KeyOf(c), v.Name, err)
	}
	return nil
}

func setAnnotation(annotations *map[string]string, name string) {
	if *annotations == nil {
		*annotations = map[string]string{}
	}
	(*annotations)[name] = "yes"
}

func with(finalizers []string, name string) []string {
	if slices.Contains(finalizers, name) {
		return finalizers
	}
	return append(finalizers, name)
}

func boundStatus(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) corev1.PersistentVolumeClaimStatus {
	status := *claim.Status.DeepCopy()
	status.Phase = corev1.ClaimBound
	status.AccessModes = volume.Spec.AccessModes
	status.Capacity = volume.Spec.Capacity
	return status
}

// lost says that a claim has lost its volume, and all that was in it.
func (b binder) lost(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Status.Phase != corev1.ClaimLost {
		b.Recorder.Event(claim, corev1.EventTypeWarning, "ClaimLost",
			"Bound claim has lost its PersistentVolume. Data on the volume is lost! Cluster may become unstable.")
	}
	return b.say(ctx, claim, corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimLost})
}

func (b binder) say(ctx context.Context, claim *corev1.PersistentVolumeClaim, status corev1.PersistentVolumeClaimStatus) error {
	if equality.Semantic.DeepEqual(claim.Status, status) {
		return nil
	}
	changed := *claim
	changed.Status = status
	if _, err := b.Writer.Commit(ctx, registry.Write{UpdateStatus: &changed}); err != nil {
		return fmt.Errorf("status of %s: %w", schema.KeyOf(claim), err)
	}
	return nil
}

func (b binder) change(ctx context.Context, claim *corev1.PersistentVolumeClaim, change func(*corev1.PersistentVolumeClaim)) error {
	changed := claim.DeepCopy()
	change(changed)
	if _, err := b.Writer.Commit(ctx, registry.Write{Update: changed}); err != nil {
		return fmt.Errorf("change %s: %w", schema.KeyOf(claim), err)
	}
	return nil
}

// releaseClaim lets a claim go that no pod uses any more.
func (b binder) releaseClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if !slices.Contains(claim.Finalizers, claimProtection) || b.used(claim) {
		return nil
	}
	return b.change(ctx, claim, func(c *corev1.PersistentVolumeClaim) {
		c.Finalizers = slices.DeleteFunc(c.Finalizers, func(f string) bool { return f == claimProtection })
	})
}

// used reports whether a pod that is bound to a node and has not finished has
// the claim.
func (b binder) used(claim *corev1.PersistentVolumeClaim) bool {
	pods := registry.ListOf[*corev1.Pod](b.Writer.Mirror, schema.Pods, claim.Namespace)
	return slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
		finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		return pod.Spec.NodeName != "" && !finished && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return volumes.ClaimName(pod, &v) == claim.Name
		})
	})
}
