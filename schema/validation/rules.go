package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// Rules are Kubernetes' defaults and validation as a registry.Validator.
type Rules struct{}

// Default fills in what an object leaves out.
func (Rules) Default(obj schema.Object) { Default(obj) }

// Validate judges a new object.
func (Rules) Validate(obj schema.Object) field.ErrorList { return Validate(obj) }

// ValidateUpdate judges a change.
func (Rules) ValidateUpdate(updated, old schema.Object) field.ErrorList {
	return ValidateUpdate(updated, old)
}

// ValidateEphemeral judges a change of a pod's ephemeral containers.
func (Rules) ValidateEphemeral(updated, old *corev1.Pod) field.ErrorList {
	return ValidateEphemeral(updated, old)
}

// ValidateResize judges a change of a pod's CPU and memory.
func (Rules) ValidateResize(updated, old *corev1.Pod) field.ErrorList {
	return ValidateResize(updated, old)
}
