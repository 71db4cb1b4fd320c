package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// errConfig is a container that cannot be made from what its pod refers to.
var errConfig = errors.New("container configuration")

// sources are where a container's environment comes from beside its own
// declaration.
type sources struct {
	refs    volume.Refs
	facts   podFacts
	links   map[string]string // of services
	volumes map[string]string // host path by volume name
}

// environment resolves a container's environment: the image's, then the
// services', then envFrom, then env, where $(NAME) stands for what came before.
// declared is all but the image's. Missing references are errors unless they
// are optional (Kubernetes: EnvVar, EnvFromSource).
func environment(pod *corev1.Pod, c *corev1.Container, image []string, from sources) (all []string, declared map[string]string, err error) {
	env := map[string]string{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": hostname(pod, from.facts.node),
	}
	for _, entry := range image {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	declared = maps.Clone(from.links)
	if declared == nil {
		declared = map[string]string{}
	}
	for _, source := range c.EnvFrom {
		values, err := envFrom(pod.Namespace, source, from.refs)
		if err != nil {
			return nil, nil, err
		}
		for name, value := range values {
			declared[source.Prefix+name] = value
		}
	}
	for _, e := range c.Env {
		value, set, err := from.value(pod, c, e, declared)
		if err != nil {
			return nil, nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if set {
			declared[e.Name] = value
		}
	}
	maps.Copy(env, declared)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		all = append(all, name+"="+env[name])
	}
	return all, declared, nil
}

func envFrom(namespace string, from corev1.EnvFromSource, refs volume.Refs) (map[string]string, error) {
	out := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, ok := refs.ConfigMap(namespace, from.ConfigMapRef.Name)
		if !ok {
			return nil, missing("configmap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		maps.Copy(out, cm.Data)
	case from.SecretRef != nil:
		secret, ok := refs.Secret(namespace, from.SecretRef.Name)
		if !ok {
			return nil, missing("secret", from.SecretRef.Name, from.SecretRef.Optional)
		}
		for name, value := range secret.Data {
			out[name] = string(value)
		}
	}
	return out, nil
}

func missing(kind, name string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %q not found: %w", kind, name, errConfig)
}

// value resolves one variable; set is false for what is optional and missing.
func (s sources) value(pod *corev1.Pod, c *corev1.Container, e corev1.EnvVar, declared map[string]string) (value string, set bool, err error) {
	if e.ValueFrom == nil {
		return Expand(e.Value, func(name string) (string, bool) { v, ok := declared[name]; return v, ok }), true, nil
	}
	switch from := e.ValueFrom; {
	case from.ConfigMapKeyRef != nil:
		return s.configMapKey(pod.Namespace, from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return s.secretKey(pod.Namespace, from.SecretKeyRef)
	case from.FieldRef != nil:
		value, err = fieldValue(pod, from.FieldRef.FieldPath, s.facts)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceValue(pod, c, from.ResourceFieldRef, s.facts.allocatable)
		return value, err == nil, err
	case from.FileKeyRef != nil:
		return s.fileKey(from.FileKeyRef)
	}
	return "", false, fmt.Errorf("unknown source: %w", errConfig)
}

func (s sources) configMapKey(namespace string, ref *corev1.ConfigMapKeySelector) (value string, set bool, err error) {
	cm, ok := s.refs.ConfigMap(namespace, ref.Name)
	if !ok {
		return "", false, missing("configmap", ref.Name, ref.Optional)
	}
	if value, ok := cm.Data[ref.Key]; ok {
		return value, true, nil
	}
	return "", false, missing("key in configmap "+ref.Name, ref.Key, ref.Optional)
}

func (s sources) secretKey(namespace string, ref *corev1.SecretKeySelector) (value string, set bool, err error) {
	secret, ok := s.refs.Secret(namespace, ref.Name)
	if !ok {
		return "", false, missing("secret", ref.Name, ref.Optional)
	}
	if value, ok := secret.Data[ref.Key]; ok {
		return string(value), true, nil
	}
	return "", false, missing("key in secret "+ref.Name, ref.Key, ref.Optional)
}

// fileKey reads a variable from a file that an init container left in a volume
// (Kubernetes: FileKeySelector).
func (s sources) fileKey(ref *corev1.FileKeySelector) (value string, set bool, err error) {
	dir, ok := s.volumes[ref.VolumeName]
	if !ok {
		return "", false, fmt.Errorf("volume %q is not there: %w", ref.VolumeName, errConfig)
	}
	text, err := volume.ReadInside(dir, ref.Path, maxEnvFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, missing("file in volume "+ref.VolumeName, ref.Path, ref.Optional)
	}
	if err != nil {
		return "", false, fmt.Errorf("file %s in volume %s: %w: %w", ref.Path, ref.VolumeName, errConfig, err)
	}
	value, found, err := envFileValue(string(text), ref.Key)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("file %s in volume %s: %w: %w", ref.Path, ref.VolumeName, errConfig, err)
	case !found:
		return "", false, missing("key in file "+ref.Path, ref.Key, ref.Optional)
	}
	return value, true, nil
}

// maxEnvFile is how large a file of variables may be, in bytes.
const maxEnvFile = 64 << 10

// Expand replaces $(NAME) by what lookup returns; what it does not know stays,
// and $$ is a dollar sign (Kubernetes: Container.command).
func Expand(s string, lookup func(name string) (string, bool)) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		end := strings.IndexByte(s[i:], ')')
		switch {
		case s[i+1] == '$':
			b.WriteByte('$')
			i++
		case s[i+1] == '(' && end > 0:
			name := s[i+2 : i+end]
			if value, ok := lookup(name); ok {
				b.WriteString(value)
			} else {
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
