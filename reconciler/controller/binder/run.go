package binder

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/reconciler/volumes"
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

type binder struct{ Config }

// Run binds until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	b := binder{cfg}
	loop := controller.Loop{
		Name: "binder", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.PersistentVolumes, schema.PersistentVolumeClaims, schema.StorageClasses, schema.Pods, schema.Nodes},
		Map:   b.dirty, Reconcile: b.reconcile, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the claims and volumes that a change may concern. One worker
// takes them one after the other, so that no volume is given twice.
func (b binder) dirty(changed schema.Key) []schema.Key {
	switch changed.Resource {
	case schema.PersistentVolumeClaims.Resource:
		return append(b.volumesOf(changed), changed)
	case schema.PersistentVolumes.Resource:
		return append(b.claims("", unbound(changed.Name)), changed)
	case schema.Pods.Resource:
		return b.claims(changed.Namespace, func(c *corev1.PersistentVolumeClaim) bool { return c.DeletionTimestamp != nil })
	case schema.Nodes.Resource:
		return b.claims("", func(c *corev1.PersistentVolumeClaim) bool {
			return c.Spec.VolumeName == "" && c.Annotations[volumes.SelectedNode] == changed.Name
		})
	}
	return b.claims("", unbound(""))
}

// unbound claims have no volume yet, or that one.
func unbound(volume string) func(*corev1.PersistentVolumeClaim) bool {
	return func(c *corev1.PersistentVolumeClaim) bool {
		return c.Spec.VolumeName == "" || c.Spec.VolumeName == volume
	}
}

func (b binder) claims(namespace string, wanted func(*corev1.PersistentVolumeClaim) bool) []schema.Key {
	var out []schema.Key
	for _, c := range registry.ListOf[*corev1.PersistentVolumeClaim](b.Writer.Mirror, schema.PersistentVolumeClaims, namespace) {
		if wanted(c) {
			out = append(out, schema.KeyOf(c))
		}
	}
	return out
}

// volumesOf are the volumes that name a claim.
func (b binder) volumesOf(claim schema.Key) []schema.Key {
	var out []schema.Key
	for _, v := range b.volumes() {
		if ref := v.Spec.ClaimRef; ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name {
			out = append(out, schema.KeyOf(v))
		}
	}
	return out
}

func (b binder) volumes() []*corev1.PersistentVolume {
	return registry.ListOf[*corev1.PersistentVolume](b.Writer.Mirror, schema.PersistentVolumes, "")
}

func (b binder) class(name string) *storagev1.StorageClass {
	class, _ := registry.GetOf[*storagev1.StorageClass](b.Writer.Mirror, schema.StorageClasses, "", name)
	return class
}

func (b binder) reconcile(ctx context.Context, key schema.Key) error {
	switch obj := b.Writer.Mirror.Get(key).(type) {
	case *corev1.PersistentVolumeClaim:
		return b.claim(ctx, obj)
	case *corev1.PersistentVolume:
		return b.volume(ctx, obj)
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
