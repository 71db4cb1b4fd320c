package nodeagent

import corev1 "k8s.io/api/core/v1"

// recursiveReadOnly reports whether all mounts below a volume's are to be
// read-only too.
func recursiveReadOnly(m corev1.VolumeMount) bool {
	return m.ReadOnly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != corev1.RecursiveReadOnlyDisabled
}
