package schema

import corev1 "k8s.io/api/core/v1"

// Tolerates reports whether a toleration matches a taint: by key and effect, of
// which an empty one is any, and by value where the operator is not Exists
// (k8s.io/api/core/v1, Toleration). For how long is another question.
func Tolerates(t corev1.Toleration, taint *corev1.Taint) bool {
	switch {
	case t.Effect != "" && t.Effect != taint.Effect, t.Key != "" && t.Key != taint.Key:
		return false
	case t.Operator == corev1.TolerationOpExists:
		return true
	}
	return t.Key != "" && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value
}

// SameTaint reports whether two taints are one, whatever their values: a node
// has at most one of a key and an effect.
func SameTaint(a, b *corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }
