package validation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// ValidateResize returns all that Kubernetes has against replacing old by pod
// through the subresource resize: of the spec only CPU and memory may change,
// none of them be taken away, and the QoS class stays. That the pod's node can
// do it goes without saying. See ValidateUpdate.
func ValidateResize(pod, old *corev1.Pod) field.ErrorList {
	_, internal, oldInternal, err := pair(pod, old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	oldInternal.Status = core.PodStatus{}
	return corevalidation.ValidatePodResize(internal, oldInternal, podOptions(internal, oldInternal))
}
