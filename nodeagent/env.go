package nodeagent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

// errConfig is a container that cannot be made from what its pod refers to.
var errConfig = errors.New("container configuration")

// podFacts is what a pod may ask about itself through the downward API.
type podFacts struct {
	podIP, hostIP, node string
}

// environment resolves a container's environment: the image's, then envFrom,
// then env, where $(NAME) stands for what came before. declared is what the
// container itself asks for. Missing references are errors unless they are
// optional (Kubernetes: EnvVar, EnvFromSource).
func environment(pod *corev1.Pod, c *corev1.Container, image []string, refs volume.Refs, facts podFacts) (all []string, declared map[string]string, err error) {
	env := map[string]string{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": hostname(pod, facts.node),
	}
	for _, entry := range image {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	declared = map[string]string{}
	for _, from := range c.EnvFrom {
		values, err := envFrom(pod.Namespace, from, refs)
		if err != nil {
			return nil, nil, err
		}
		for name, value := range values {
			declared[from.Prefix+name] = value
		}
	}
	for _, e := range c.Env {
		value, set, err := envValue(pod, e, refs, facts, declared)
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

func envValue(pod *corev1.Pod, e corev1.EnvVar, refs volume.Refs, facts podFacts, declared map[string]string) (value string, set bool, err error) {
	if e.ValueFrom == nil {
		return Expand(e.Value, func(name string) (string, bool) { v, ok := declared[name]; return v, ok }), true, nil
	}
	switch from := e.ValueFrom; {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		if cm, ok := refs.ConfigMap(pod.Namespace, ref.Name); ok {
			if value, ok := cm.Data[ref.Key]; ok {
				return value, true, nil
			}
			return "", false, missing("key in configmap "+ref.Name, ref.Key, ref.Optional)
		}
		return "", false, missing("configmap", ref.Name, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		if secret, ok := refs.Secret(pod.Namespace, ref.Name); ok {
			if value, ok := secret.Data[ref.Key]; ok {
				return string(value), true, nil
			}
			return "", false, missing("key in secret "+ref.Name, ref.Key, ref.Optional)
		}
		return "", false, missing("secret", ref.Name, ref.Optional)
	case from.FieldRef != nil:
		value, err := fieldValue(pod, from.FieldRef.FieldPath, facts)
		return value, err == nil, err
	}
	return "", false, fmt.Errorf("unknown source: %w", errConfig)
}

// fieldValue reads a pod's field for the downward API (Kubernetes: "Available
// fields").
func fieldValue(pod *corev1.Pod, path string, facts podFacts) (string, error) {
	for prefix, values := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return values[strings.TrimSuffix(rest, "']")], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return facts.node, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return facts.podIP, nil
	case "status.hostIP", "status.hostIPs":
		return facts.hostIP, nil
	}
	return "", fmt.Errorf("field %s cannot be read: %w", path, errConfig)
}

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

// hostname is the name a pod has for itself.
func hostname(pod *corev1.Pod, node string) string {
	name := pod.Name
	switch {
	case pod.Spec.HostNetwork:
		name = node
	case pod.Spec.Hostname != "":
		name = pod.Spec.Hostname
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}
