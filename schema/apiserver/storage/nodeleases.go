package storage

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
)

// leases are the leases that people and programs write, and in the namespace
// kube-node-lease those that the registries make of the nodes' presence. These
// can be read, one or all, and nothing else: nobody writes them, and as nothing
// is stored when one is renewed there is nothing to watch. Lists of all
// namespaces leave them out for that.
type leases struct{ collection }

var _ rest.StandardStorage = leases{}

// ofNodes reports whether a request is about the leases of nodes.
func (s leases) ofNodes(ctx context.Context) bool {
	return request.NamespaceValue(ctx) == corev1.NamespaceNodeLease
}

func (s leases) cannot(verb string) error {
	return apierrors.NewMethodNotSupported(s.groupResource(), verb)
}

// Get implements rest.Getter.
func (s leases) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	if !s.ofNodes(ctx) {
		return s.collection.Get(ctx, name, opts)
	}
	lease, err := s.cfg.Registries.NodeLease(ctx, name)
	if err != nil {
		return nil, failure.Of(err, s.key(ctx, name))
	}
	return lease, nil
}

// List implements rest.Lister.
func (s leases) List(ctx context.Context, opts *metainternalversion.ListOptions) (runtime.Object, error) {
	if !s.ofNodes(ctx) {
		return s.collection.List(ctx, opts)
	}
	objs, revision, err := s.cfg.Registries.NodeLeases(ctx)
	if err != nil {
		return nil, failure.Of(err, schema.Key{Resource: s.kind.Resource})
	}
	return s.list(matching(filter(ctx, opts), objs), revision), nil
}

// Watch implements rest.Watcher.
func (s leases) Watch(ctx context.Context, opts *metainternalversion.ListOptions) (watch.Interface, error) {
	if s.ofNodes(ctx) {
		return nil, s.cannot("watch")
	}
	return s.collection.Watch(ctx, opts)
}

// Create implements rest.Creater.
func (s leases) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	if s.ofNodes(ctx) {
		return nil, s.cannot("create")
	}
	return s.collection.Create(ctx, obj, validate, opts)
}

// Update implements rest.Updater.
func (s leases) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc,
	update rest.ValidateObjectUpdateFunc, mayCreate bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	if s.ofNodes(ctx) {
		return nil, false, s.cannot("update")
	}
	return s.collection.Update(ctx, name, info, create, update, mayCreate, opts)
}

// Delete implements rest.GracefulDeleter.
func (s leases) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if s.ofNodes(ctx) {
		return nil, false, s.cannot("delete")
	}
	return s.collection.Delete(ctx, name, validate, opts)
}

// DeleteCollection implements rest.CollectionDeleter.
func (s leases) DeleteCollection(
	ctx context.Context, validate rest.ValidateObjectFunc, opts *metav1.DeleteOptions, which *metainternalversion.ListOptions,
) (runtime.Object, error) {
	if s.ofNodes(ctx) {
		return nil, s.cannot("deletecollection")
	}
	return s.collection.DeleteCollection(ctx, validate, opts, which)
}
