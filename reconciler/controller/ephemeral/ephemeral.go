// Package ephemeral makes the claims of pods' generic ephemeral volumes, as
// Kubernetes' ephemeral volume controller does: <pod>-<volume>, owned by the
// pod, so that the garbage controller removes it with the pod.
//
// The control plane's leader runs it. It never changes a claim that is there,
// and binds none: the binder does.
package ephemeral

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer   controller.Writer
	Recorder controller.Recorder
	Metrics  *controller.Metrics
	Logger   *slog.Logger
}

type maker struct{ Config }

// Run works until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	m := maker{cfg}
	loop := controller.Loop{
		Name: "ephemeral", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Pods, schema.PersistentVolumeClaims},
		Map:   m.dirty, Reconcile: m.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the pods that have a claim made, or that want the claim that is
// gone or not theirs.
func (m maker) dirty(changed schema.Key) []schema.Key {
	mirror := m.Writer.Mirror
	if changed.Resource == schema.Pods.Resource {
		if pod, ok := mirror.Get(changed).(*corev1.Pod); !ok || !slices.ContainsFunc(pod.Spec.Volumes, isEphemeral) {
			return nil
		}
		return []schema.Key{changed}
	}
	if claim, there := mirror.Get(changed).(*corev1.PersistentVolumeClaim); there && claim.DeletionTimestamp == nil {
		return nil
	}
	var out []schema.Key
	for i, c := range changed.Name { // its name is that of a pod and that of a volume
		if c != '-' {
			continue
		}
		key := schema.Pods.Key(changed.Namespace, changed.Name[:i])
		pod, ok := mirror.Get(key).(*corev1.Pod)
		if ok && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return isEphemeral(v) && v.Name == changed.Name[i+1:] }) {
			out = append(out, key)
		}
	}
	return out
}

func isEphemeral(v corev1.Volume) bool { return v.Ephemeral != nil }

func (m maker) reconcile(ctx context.Context, key schema.Key) error {
	pod, ok := m.Writer.Mirror.Get(key).(*corev1.Pod)
	if !ok || pod.DeletionTimestamp != nil {
		return nil
	}
	var writes []registry.Write
	var errs []error
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if !isEphemeral(*volume) {
			continue
		}
		name := ephemeral.VolumeClaimName(pod, volume)
		live, there := m.Writer.Mirror.Get(schema.PersistentVolumeClaims.Key(pod.Namespace, name)).(*corev1.PersistentVolumeClaim)
		if !there {
			writes = append(writes, registry.Write{Create: claimOf(pod, name, volume.Ephemeral.VolumeClaimTemplate)})
		} else if err := ephemeral.VolumeIsForPod(pod, live); err != nil {
			m.Recorder.Event(pod, corev1.EventTypeWarning, "FailedBinding",
				fmt.Sprintf("ephemeral volume %s: %v: delete the claim, or rename pod or volume", volume.Name, err))
		}
	}
	for _, w := range writes {
		if _, err := m.Writer.Commit(ctx, w); err != nil {
			errs = append(errs, fmt.Errorf("make claim %s/%s: %w", pod.Namespace, w.Create.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// claimOf is the claim of a pod's ephemeral volume. Pure.
func claimOf(pod *corev1.Pod, name string, template *corev1.PersistentVolumeClaimTemplate) *corev1.PersistentVolumeClaim {
	is := true
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: name, Labels: template.Labels, Annotations: template.Annotations,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: &is, BlockOwnerDeletion: &is,
			}},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}
