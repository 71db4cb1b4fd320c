package storage

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// createdByUpdate are the kinds of which a PUT makes an object that is not
// there, as in Kubernetes (AllowCreateOnUpdate).
var createdByUpdate = []string{"endpoints", "events", "leases", "roles", "rolebindings", "clusterroles", "clusterrolebindings"}

// versionedOnly are the kinds of which a PUT has to name the version that it
// replaces (AllowUnconditionalUpdate).
var versionedOnly = []string{"leases"}

// update is a change of one object in the making: of the object itself, or of
// one of its subresources.
type update struct {
	*objects
	info     rest.UpdatedObjectInfo
	validate rest.ValidateObjectUpdateFunc
	dryRun   []string
	owned    bool                               // git may own what is changed
	judged   bool                               // not all that Kubernetes takes is supported
	put      func(schema.Object) registry.Write // the write that takes the changed object
}

// Update implements rest.Updater; a patch is one too.
func (s *objects) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, validateCreate rest.ValidateObjectFunc,
	validate rest.ValidateObjectUpdateFunc, forceCreate bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	key := s.key(ctx, name)
	u := update{
		objects: s, info: info, validate: validate, dryRun: opts.DryRun, owned: true, judged: true,
		put: func(obj schema.Object) registry.Write { return registry.Write{Update: obj} },
	}
	mayCreate := forceCreate || slices.Contains(createdByUpdate, s.kind.Resource)
	for {
		obj, err := u.run(ctx, key)
		if !apierrors.IsNotFound(err) || !mayCreate {
			return obj, false, err
		}
		obj, err = s.createByUpdate(ctx, info, validateCreate, opts.DryRun)
		if !apierrors.IsAlreadyExists(err) {
			return obj, err == nil, err
		}
	}
}

func (s *objects) createByUpdate(ctx context.Context, info rest.UpdatedObjectInfo, validate rest.ValidateObjectFunc, dryRun []string) (schema.Object, error) {
	obj, err := info.UpdatedObject(ctx, s.New())
	if err != nil {
		return nil, err
	}
	created := obj.(schema.Object)
	rest.WipeObjectMetaSystemFields(created)
	created.SetResourceVersion("")
	return s.create(ctx, created, validate, dryRun)
}

// run reads, changes and writes, and begins again when somebody else wrote in
// between: unless the client named the version that it replaces.
func (u update) run(ctx context.Context, key schema.Key) (schema.Object, error) {
	for {
		obj, named, err := u.once(ctx, key)
		if !apierrors.IsConflict(err) || named {
			return obj, err
		}
		if ctx.Err() != nil {
			return nil, failure.Of(ctx.Err(), key)
		}
	}
}

func (u update) once(ctx context.Context, key schema.Key) (result schema.Object, named bool, err error) {
	existing, err := u.get(ctx, key)
	if err != nil {
		return nil, false, err
	}
	updated, err := u.changed(ctx, existing)
	if err != nil {
		return nil, true, err
	}
	switch rv := updated.GetResourceVersion(); {
	case rv == "" && slices.Contains(versionedOnly, u.kind.Resource):
		return nil, true, apierrors.NewInvalid(u.kind.GVK.GroupKind(), key.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), "", "must be specified for an update"),
		})
	case rv == "":
		updated.SetResourceVersion(existing.GetResourceVersion())
	case rv != existing.GetResourceVersion():
		named = true
	}
	if u.validate != nil {
		if err := u.validate(ctx, updated.DeepCopyObject(), existing.DeepCopyObject()); err != nil {
			return nil, true, err
		}
	}
	if u.judged {
		if err := u.supported(existing, updated); err != nil {
			return nil, true, err
		}
	}
	if u.owned {
		if err := u.own(ctx, existing, updated); err != nil {
			return nil, true, err
		}
	}
	result, err = u.write(ctx, u.put(updated), key, u.dryRun)
	if err == nil && result == nil {
		result = updated // the last finalizer went, and the object with it
	}
	return result, named, err
}

// changed is the object as the client wants it, with its defaults. What only
// touches the times of managed fields is no change.
func (u update) changed(ctx context.Context, existing schema.Object) (schema.Object, error) {
	updated, err := u.info.UpdatedObject(ctx, existing)
	if err != nil {
		return nil, err
	}
	if p := u.info.Preconditions(); p != nil && p.UID != nil && *p.UID != existing.GetUID() {
		return nil, apierrors.NewConflict(u.groupResource(), existing.GetName(), uidError{*p.UID, existing.GetUID()})
	}
	scheme.Scheme.Default(updated)
	updated.GetObjectKind().SetGroupVersionKind(u.kind.GVK)
	updated, err = fieldmanager.IgnoreManagedFieldsTimestampsTransformer(ctx, updated, existing)
	if err != nil {
		return nil, err
	}
	return updated.(schema.Object), nil
}
