package images

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Question is what is known of a container's image when it is to start.
type Question struct {
	Policy  corev1.PullPolicy
	Present bool
	// Allowed is false for an image that others pulled with credentials that
	// the pod does not have.
	Allowed bool
	// Fresh is true after a pull for this start.
	Fresh bool
}

// Answer is what to do about an image.
type Answer string

// The answers. Refuse is for the policy Never.
const (
	Use    Answer = "use"
	Pull   Answer = "pull"
	Refuse Answer = "refuse"
)

// Decide applies a pull policy. Whoever may not use an image that is present
// is told the same as if it were not there (Kubernetes: "Ensure secret pulled
// images", on by default since 1.35, with NeverVerifyPreloadedImages).
func Decide(q Question) Answer {
	usable := q.Present && q.Allowed
	switch {
	case usable && (q.Fresh || q.Policy != corev1.PullAlways):
		return Use
	case q.Policy == corev1.PullNever:
		return Refuse
	}
	return Pull
}

// Allowed reports whether one of a pod's credentials is among those that
// pulled an image.
func Allowed(credentials []Credential, pulledWith []string) bool {
	return slices.ContainsFunc(credentials, func(c Credential) bool {
		return slices.ContainsFunc(c.Keys(), func(key string) bool { return slices.Contains(pulledWith, key) })
	})
}
