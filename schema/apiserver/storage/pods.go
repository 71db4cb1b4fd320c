package storage

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// binding is the creation of Bindings: at pods/<name>/binding, and at bindings
// for those who name the pod in the object. It can do nothing else.
type binding struct{ pods *objects }

var (
	_ rest.NamedCreater                   = binding{}
	_ rest.Creater                        = oldBinding{}
	_ rest.SubresourceObjectMetaPreserver = binding{}
)

// NewBinding returns the storage of pods/binding.
func NewBinding(cfg *Config) rest.Storage { return binding{newObjects(cfg, schema.Pods)} }

// NewBindings returns the storage of bindings.
func NewBindings(cfg *Config) rest.Storage {
	return oldBinding{binding{newObjects(cfg, schema.Pods)}}
}

// New implements rest.Storage.
func (s binding) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage.
func (s binding) Destroy() {}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate implements
// rest.SubresourceObjectMetaPreserver: the UID of a binding is that of the pod.
func (s binding) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create implements rest.NamedCreater.
func (s binding) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	b, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding: %T", obj))
	}
	if name != b.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	b = b.DeepCopy()
	b.Namespace = request.NamespaceValue(ctx)
	if validate != nil {
		if err := validate(ctx, b.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if _, err := s.pods.write(ctx, registry.Write{Create: b}, s.pods.key(ctx, name), opts.DryRun); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}

// oldBinding is a binding whose name is in the object alone.
type oldBinding struct{ binding binding }

// New implements rest.Storage.
func (s oldBinding) New() runtime.Object { return &corev1.Binding{} }

// Destroy implements rest.Storage.
func (s oldBinding) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (s oldBinding) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (s oldBinding) GetSingularName() string { return "binding" }

// Create implements rest.Creater.
func (s oldBinding) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	b, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a Binding: %T", obj))
	}
	return s.binding.Create(ctx, b.Name, obj, validate, opts)
}

// eviction deletes a pod at the request of somebody who would be refused if a
// disruption budget forbade it. Evenkeel has no budgets, and refuses nobody.
type eviction struct{ pods *objects }

var (
	_ rest.NamedCreater             = eviction{}
	_ rest.GroupVersionKindProvider = eviction{}
)

// NewEviction returns the storage of pods/eviction.
func NewEviction(cfg *Config) rest.Storage { return eviction{newObjects(cfg, schema.Pods)} }

// New implements rest.Storage.
func (s eviction) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy implements rest.Storage.
func (s eviction) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (s eviction) GroupVersionKind(kschema.GroupVersion) kschema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

// Create implements rest.NamedCreater.
func (s eviction) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	e, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not an Eviction: %T", obj))
	}
	if name != e.Name {
		return nil, apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if validate != nil {
		if err := validate(ctx, e.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	deletion := e.DeleteOptions.DeepCopy()
	if deletion == nil {
		deletion = &metav1.DeleteOptions{}
	}
	if len(opts.DryRun) > 0 {
		deletion.DryRun = opts.DryRun
	}
	if _, _, err := s.pods.delete(ctx, s.pods.key(ctx, name), nil, deletion); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}
