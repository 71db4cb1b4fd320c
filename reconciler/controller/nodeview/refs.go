package nodeview

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/evenkeel/evenkeel/schema"
)

// Refs returns the config maps, secrets and claims that a pod refers to, whether
// they are optional or not.
func Refs(pod *corev1.Pod) map[schema.Key]bool {
	refs := map[schema.Key]bool{}
	configMap := func(name string) { refs[schema.ConfigMaps.Key(pod.Namespace, name)] = true }
	secret := func(name string) { refs[schema.Secrets.Key(pod.Namespace, name)] = true }
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			configMap(v.ConfigMap.Name)
		}
		if v.Secret != nil {
			secret(v.Secret.SecretName)
		}
		if claim := v.PersistentVolumeClaim; claim != nil {
			refs[schema.PersistentVolumeClaims.Key(pod.Namespace, claim.ClaimName)] = true
		}
		if v.Ephemeral != nil {
			refs[schema.PersistentVolumeClaims.Key(pod.Namespace, ephemeral.VolumeClaimName(pod, &v))] = true
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				configMap(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				secret(s.Secret.Name)
			}
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		secret(s.Name)
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containerRefs(&containers[i], configMap, secret)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		containerRefs((*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon), configMap, secret)
	}
	return refs
}

// volumesOf returns the volumes that claims among some references are bound to.
func volumesOf(refs map[schema.Key]bool, get func(schema.Key) schema.Object) map[schema.Key]bool {
	volumes := map[schema.Key]bool{}
	for key := range refs {
		if key.Resource != schema.PersistentVolumeClaims.Resource {
			continue
		}
		if claim, ok := get(key).(*corev1.PersistentVolumeClaim); ok && claim.Spec.VolumeName != "" {
			volumes[schema.PersistentVolumes.Key("", claim.Spec.VolumeName)] = true
		}
	}
	return volumes
}

func containerRefs(c *corev1.Container, configMap, secret func(name string)) {
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			configMap(r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			secret(r.Name)
		}
	}
	for _, e := range c.EnvFrom {
		if e.ConfigMapRef != nil {
			configMap(e.ConfigMapRef.Name)
		}
		if e.SecretRef != nil {
			secret(e.SecretRef.Name)
		}
	}
}
