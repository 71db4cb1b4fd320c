package storage

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// generateAttempts is how often a name that was generated, and is taken, is
// generated anew; as often as in Kubernetes.
const generateAttempts = 8

// Create implements rest.Creater.
func (s *objects) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	o := obj.(schema.Object)
	if o.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	return s.create(ctx, o, validate, opts.DryRun)
}

func (s *objects) create(ctx context.Context, obj schema.Object, validate rest.ValidateObjectFunc, dryRun []string) (schema.Object, error) {
	if ns := request.NamespaceValue(ctx); s.kind.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace(ns)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := s.supported(nil, obj); err != nil {
		return nil, err
	}
	if err := s.own(ctx, nil, obj); err != nil {
		return nil, err
	}
	attempts := 1
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		attempts = generateAttempts
	}
	key := s.kind.Key(obj.GetNamespace(), obj.GetName())
	for {
		created, err := s.write(ctx, registry.Write{Create: obj}, key, dryRun)
		if attempts--; !apierrors.IsAlreadyExists(err) || attempts > 0 {
			if err == nil || !apierrors.IsAlreadyExists(err) {
				return created, err
			}
			continue
		}
		return nil, s.alreadyExists(ctx, err, key)
	}
}

// alreadyExists says of an object that is in the way whether it is about to go.
func (s *objects) alreadyExists(ctx context.Context, err error, key schema.Key) error {
	if key.Name == "" {
		return apierrors.NewGenerateNameConflict(s.groupResource(), key.Name, 1)
	}
	there, getErr := s.get(ctx, key)
	if getErr != nil || there.GetDeletionTimestamp() == nil {
		return err
	}
	deleting := apierrors.NewAlreadyExists(s.groupResource(), key.Name)
	deleting.ErrStatus.Message = fmt.Sprintf("object is being deleted: %s", deleting.ErrStatus.Message)
	return deleting
}
