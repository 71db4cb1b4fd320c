package validation

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
)

// validateCreate is the hand-written part, kind by kind, as the strategies in
// k8s.io/kubernetes/pkg/registry call it.
func validateCreate(obj runtime.Object) field.ErrorList {
	switch o := obj.(type) {
	case *core.Pod:
		return corevalidation.ValidatePodCreate(o, podOptions(o, nil))
	case *core.ReplicationController:
		return corevalidation.ValidateReplicationController(o, podapi.GetValidationOptionsFromPodTemplate(o.Spec.Template, nil))
	case *core.Service:
		return corevalidation.ValidateServiceCreate(o)
	case *core.Endpoints:
		return corevalidation.ValidateEndpointsCreate(o)
	case *discovery.EndpointSlice:
		return discoveryvalidation.ValidateEndpointSliceCreate(o)
	case *core.Node:
		return corevalidation.ValidateNode(o)
	case *core.Namespace:
		return corevalidation.ValidateNamespace(o)
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o)
	case *core.Secret:
		return corevalidation.ValidateSecret(o)
	case *core.Event:
		return corevalidation.ValidateEventCreate(o, corev1.SchemeGroupVersion)
	}
	if errs, ok := validateAccess(obj, nil); ok {
		return errs
	}
	if errs, ok := validateStorage(obj, nil); ok {
		return errs
	}
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("no validation for %T", obj))}
}

// validateUpdate is validateCreate for a change. Objects of different types
// are an internal error.
func validateUpdate(obj, old runtime.Object) field.ErrorList {
	switch o := obj.(type) {
	case *core.Pod:
		if old, ok := old.(*core.Pod); ok {
			return corevalidation.ValidatePodUpdate(o, old, podOptions(o, old))
		}
	case *core.ReplicationController:
		if old, ok := old.(*core.ReplicationController); ok {
			opts := podapi.GetValidationOptionsFromPodTemplate(o.Spec.Template, old.Spec.Template)
			return corevalidation.ValidateReplicationControllerUpdate(o, old, opts)
		}
	case *core.Service:
		if old, ok := old.(*core.Service); ok {
			return corevalidation.ValidateServiceUpdate(o, old)
		}
	case *core.Endpoints:
		if old, ok := old.(*core.Endpoints); ok {
			return corevalidation.ValidateEndpointsUpdate(o, old)
		}
	case *discovery.EndpointSlice:
		if old, ok := old.(*discovery.EndpointSlice); ok {
			return discoveryvalidation.ValidateEndpointSliceUpdate(o, old)
		}
	case *core.Node:
		if old, ok := old.(*core.Node); ok {
			return corevalidation.ValidateNodeUpdate(o, old)
		}
	case *core.Namespace:
		if old, ok := old.(*core.Namespace); ok {
			return corevalidation.ValidateNamespaceUpdate(o, old)
		}
	case *core.ConfigMap:
		if old, ok := old.(*core.ConfigMap); ok {
			return corevalidation.ValidateConfigMapUpdate(o, old)
		}
	case *core.Secret:
		if old, ok := old.(*core.Secret); ok {
			return corevalidation.ValidateSecretUpdate(o, old)
		}
	case *core.Event:
		if old, ok := old.(*core.Event); ok {
			return corevalidation.ValidateEventUpdate(o, old, corev1.SchemeGroupVersion)
		}
	}
	if errs, ok := validateAccess(obj, old); ok {
		return errs
	}
	if errs, ok := validateStorage(obj, old); ok {
		return errs
	}
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("no validation from %T to %T", old, obj))}
}

// podOptions are the options of the pods resource itself, not of a template.
func podOptions(pod, old *core.Pod) corevalidation.PodValidationOptions {
	if old == nil {
		opts := podapi.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
		opts.ResourceIsPod = true
		return opts
	}
	opts := podapi.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, &old.Spec, &pod.ObjectMeta, &old.ObjectMeta)
	opts.ResourceIsPod = true
	return opts
}
