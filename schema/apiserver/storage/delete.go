package storage

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// returnDeleted are the kinds of which a deletion answers with the object that
// is gone, and not only that it succeeded (ReturnDeletedObject).
var returnDeleted = []string{"pods", "services", "persistentvolumes", "persistentvolumeclaims", "serviceaccounts", "storageclasses"}

// DeleteReturnsDeletedObject implements rest.MayReturnFullObjectDeleter.
func (s *objects) DeleteReturnsDeletedObject() bool {
	return slices.Contains(returnDeleted, s.kind.Resource)
}

// Delete implements rest.GracefulDeleter.
func (s *objects) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	return s.delete(ctx, s.key(ctx, name), validate, opts)
}

func (s *objects) delete(ctx context.Context, key schema.Key, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if opts == nil {
		opts = &metav1.DeleteOptions{}
	}
	existing, err := s.get(ctx, key)
	if err != nil {
		return nil, false, err
	}
	if validate != nil {
		if err := validate(ctx, existing.DeepCopyObject()); err != nil {
			return nil, false, err
		}
	}
	if err := s.own(ctx, existing, nil); err != nil {
		return nil, false, err
	}
	left, err := s.write(ctx, registry.Write{Delete: s.deletion(key, opts)}, key, opts.DryRun)
	switch {
	case err != nil:
		return nil, false, err
	case left != nil:
		return left, false, nil
	case s.DeleteReturnsDeletedObject():
		return existing, true, nil
	}
	return s.success(existing), true, nil
}

// deletion says to the registries what a client asked for.
func (s *objects) deletion(key schema.Key, opts *metav1.DeleteOptions) *registry.Deletion {
	d := &registry.Deletion{Key: key, GraceSeconds: opts.GracePeriodSeconds}
	if p := opts.Preconditions; p != nil {
		if p.UID != nil {
			d.UID = *p.UID
		}
		if p.ResourceVersion != nil {
			d.ResourceVersion = *p.ResourceVersion
		}
	}
	d.Propagation = s.propagation(opts)
	return d
}

// propagation is what becomes of what an object owns. A client that says
// nothing orphans a replication controller's pods: that is how core/v1 was.
func (s *objects) propagation(opts *metav1.DeleteOptions) metav1.DeletionPropagation {
	orphan := opts.OrphanDependents //nolint:staticcheck // old clients still send it
	switch {
	case opts.PropagationPolicy != nil:
		return *opts.PropagationPolicy
	case orphan != nil && *orphan, orphan == nil && s.kind == schema.ReplicationControllers:
		return metav1.DeletePropagationOrphan
	case orphan != nil:
		return metav1.DeletePropagationBackground
	}
	return ""
}

func (s *objects) success(gone schema.Object) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{
		Name: gone.GetName(), UID: gone.GetUID(), Group: s.kind.GVK.Group, Kind: s.kind.Resource,
	}}
}

// collection is a kind whose objects can be deleted all at once.
type collection struct{ *objects }

// DeleteCollection implements rest.CollectionDeleter. Objects that are gone
// before their turn do not count.
func (s collection) DeleteCollection(
	ctx context.Context, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions, which *metainternalversion.ListOptions,
) (runtime.Object, error) {
	f := filter(ctx, which)
	objs, revision, err := s.cfg.Hub.Objects(ctx, s.kind, f.Namespace, 0, true)
	if err != nil {
		return nil, failure.Of(err, schema.Key{Resource: s.kind.Resource})
	}
	objs = matching(f, objs)
	for _, obj := range objs {
		_, _, err := s.delete(ctx, schema.KeyOf(obj), validate, opts.DeepCopy())
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	return s.list(objs, revision), nil
}
