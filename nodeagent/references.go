package nodeagent

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evenkeel/evenkeel/schema"
)

// ConfigMap implements volume.Objects.
func (b *bindings) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	cm, ok := b.ref(schema.ConfigMaps.Key(namespace, name)).(*corev1.ConfigMap)
	return cm, ok
}

// Secret implements volume.Objects.
func (b *bindings) Secret(namespace, name string) (*corev1.Secret, bool) {
	s, ok := b.ref(schema.Secrets.Key(namespace, name)).(*corev1.Secret)
	return s, ok
}

// Claim implements volume.Objects.
func (b *bindings) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool) {
	c, ok := b.ref(schema.PersistentVolumeClaims.Key(namespace, name)).(*corev1.PersistentVolumeClaim)
	return c, ok
}

// Volume implements volume.Objects.
func (b *bindings) Volume(name string) (*corev1.PersistentVolume, bool) {
	v, ok := b.ref(schema.PersistentVolumes.Key("", name)).(*corev1.PersistentVolume)
	return v, ok
}

func (b *bindings) ref(key schema.Key) schema.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refs[key]
}

// token returns a token of a pod, if it has one of that sort.
func (b *bindings) token(pod *corev1.Pod, audience string, seconds int64) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tokens := b.tokens[string(pod.UID)]
	if tokens == nil {
		return "", false
	}
	token, ok := tokens.Data[schema.TokenName(audience, seconds)]
	return string(token), ok
}

// setNewest notes up to which revision the bindings are known.
func (b *bindings) setNewest(revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest = revision
}

func (b *bindings) newestRevision() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest
}

// references answers what volumes and environments of pods ask for.
type references struct {
	*bindings
	facts podFacts
}

func (a *agent) refs() references {
	return references{bindings: a.bindings, facts: a.machine.factsOf("")}
}

// Field implements volume.Facts.
func (r references) Field(pod *corev1.Pod, path string) (string, error) {
	return fieldValue(pod, path, r.facts)
}

// Resource implements volume.Facts.
func (r references) Resource(pod *corev1.Pod, ref *corev1.ResourceFieldSelector) (string, error) {
	return resourceValue(pod, &corev1.Container{}, ref, r.facts.allocatable)
}

// Token implements volume.Facts.
func (r references) Token(pod *corev1.Pod, audience string, seconds int64) (string, bool) {
	return r.token(pod, audience, seconds)
}

// linksFor are the variables of services for a pod that is to start.
func (a *agent) linksFor(ctx context.Context, pod *corev1.Pod) map[string]string {
	if a.cfg.Standalone {
		return nil
	}
	return a.links.variables(ctx, pod, a.bindings.newestRevision())
}

// allocatable is what the node can give to pods.
func allocatable(cfg Config) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(cfg.Capacity.MilliCPU-cfg.Reserved.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(cfg.Capacity.Memory-cfg.Reserved.Memory, resource.BinarySI),
	}
}

// asksAboutItself reports whether a volume of the pod tells of the pod.
func asksAboutItself(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.DownwardAPI != nil || v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.DownwardAPI != nil })
	})
}

// refersTo reports whether a pod refers to one of some objects.
func refersTo(pod *corev1.Pod, refs map[schema.Key]bool) bool {
	r := referral{pod: pod, refs: refs}
	return slices.ContainsFunc(pod.Spec.ImagePullSecrets, func(s corev1.LocalObjectReference) bool { return r.secret(s.Name) }) ||
		slices.ContainsFunc(pod.Spec.Volumes, r.volume) ||
		slices.ContainsFunc(pod.Spec.InitContainers, r.container) || slices.ContainsFunc(pod.Spec.Containers, r.container) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return r.container(*asContainer(&c)) })
}

// referral looks for references of one pod.
type referral struct {
	pod  *corev1.Pod
	refs map[schema.Key]bool
}

func (r referral) configMap(name string) bool {
	return r.refs[schema.ConfigMaps.Key(r.pod.Namespace, name)]
}

func (r referral) secret(name string) bool { return r.refs[schema.Secrets.Key(r.pod.Namespace, name)] }

// claim is also any persistent volume: which one is not said here.
func (r referral) claim(name string) bool {
	if r.refs[schema.PersistentVolumeClaims.Key(r.pod.Namespace, name)] {
		return true
	}
	for key := range r.refs {
		if key.Resource == schema.PersistentVolumes.Resource {
			return true
		}
	}
	return false
}

func (r referral) volume(v corev1.Volume) bool {
	switch {
	case v.ConfigMap != nil:
		return r.configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		return r.secret(v.Secret.SecretName)
	case v.PersistentVolumeClaim != nil:
		return r.claim(v.PersistentVolumeClaim.ClaimName)
	case v.Projected != nil:
		return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ConfigMap != nil && r.configMap(s.ConfigMap.Name) || s.Secret != nil && r.secret(s.Secret.Name)
		})
	}
	return false
}

func (r referral) container(c corev1.Container) bool {
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil && r.configMap(from.ConfigMapRef.Name) || from.SecretRef != nil && r.secret(from.SecretRef.Name) {
			return true
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		cm, s := e.ValueFrom.ConfigMapKeyRef, e.ValueFrom.SecretKeyRef
		if cm != nil && r.configMap(cm.Name) || s != nil && r.secret(s.Name) {
			return true
		}
	}
	return false
}
