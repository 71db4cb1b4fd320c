package nodeagent

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// podFacts is what a pod may ask about its place through the downward API.
type podFacts struct {
	podIP, hostIP, node string
	allocatable         corev1.ResourceList // what stands for a limit that is not set
}

// fieldValue reads a pod's field for the downward API (Kubernetes: "Available
// fields").
func fieldValue(pod *corev1.Pod, path string, facts podFacts) (string, error) {
	if field, key, ok := subscript(path); ok {
		switch field {
		case "metadata.labels":
			return pod.Labels[key], nil
		case "metadata.annotations":
			return pod.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
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

// subscript cuts "metadata.labels['app']" into field and key.
func subscript(path string) (field, key string, ok bool) {
	inner, closed := strings.CutSuffix(path, "']")
	field, key, open := strings.Cut(inner, "['")
	return field, key, closed && open && field != ""
}

// formatMap is labels or annotations as the downward API gives them: a line
// each, the value quoted.
func formatMap(m map[string]string) string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key + "=" + strconv.Quote(m[key]))
	}
	return b.String()
}

// resourceValue is what a container asks for or is limited to, in units of
// the divisor, rounded up. A limit that is not set is what the node can give
// (Kubernetes: ResourceFieldSelector).
func resourceValue(pod *corev1.Pod, c *corev1.Container, ref *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	if ref.ContainerName != "" {
		c = containerNamed(pod, ref.ContainerName)
	}
	list, name, _ := strings.Cut(ref.Resource, ".")
	kind := corev1.ResourceName(name)
	var q resource.Quantity
	switch list {
	case "limits":
		if q = c.Resources.Limits[kind]; q.IsZero() {
			q = allocatable[kind]
		}
	case "requests":
		q = c.Resources.Requests[kind]
	default:
		return "", fmt.Errorf("resource %s cannot be read: %w", ref.Resource, errConfig)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if kind == corev1.ResourceCPU {
		return strconv.FormatInt(ceil(q.MilliValue(), divisor.MilliValue()), 10), nil
	}
	return strconv.FormatInt(ceil(q.Value(), divisor.Value()), 10), nil
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }
