package validation

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// ValidateEphemeral returns all that Kubernetes has against replacing old by
// pod through the subresource ephemeralcontainers: containers may be added,
// and none changed or taken away; those that are there must be able to run in
// the pod, and a static pod can have none. The two differ in nothing else. See
// ValidateUpdate.
func ValidateEphemeral(pod, old *corev1.Pod) field.ErrorList {
	pod, internal, oldInternal, err := pair(pod, old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	ctx := context.Background()
	written := corevalidation.ValidatePodEphemeralContainersUpdate(internal, oldInternal, podOptions(internal, oldInternal))
	declared := scheme.ValidateUpdate(ctx, declarativeOptions, pod, old, "ephemeralcontainers")
	return enforce(ctx, written, declared)
}

// pair is a pod and what it is to replace, in Kubernetes' internal form.
func pair(pod, old *corev1.Pod) (versioned *corev1.Pod, internal, oldInternal *core.Pod, err error) {
	if pod.ResourceVersion == "" {
		pod = pod.DeepCopy()
		pod.ResourceVersion = resourceVersionOf(old)
	}
	if internal, err = internalPod(pod); err != nil {
		return nil, nil, nil, err
	}
	oldInternal, err = internalPod(old)
	return pod, internal, oldInternal, err
}

func internalPod(pod *corev1.Pod) (*core.Pod, error) {
	obj, err := Internal(pod)
	if err != nil {
		return nil, err
	}
	return obj.(*core.Pod), nil
}
