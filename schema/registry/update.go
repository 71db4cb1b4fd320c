package registry

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// current reads what an update is based on, and refuses one that is based on
// something older.
func (r *Registries) current(ctx context.Context, obj schema.Object) (stored, schema.Key, error) {
	if _, ok := obj.(*corev1.Binding); ok {
		return stored{}, schema.Key{}, notSupported("update")
	}
	kind, err := schema.KindOf(obj)
	if err != nil {
		return stored{}, schema.Key{}, apierrors.NewBadRequest(err.Error())
	}
	key := kind.Key(obj.GetNamespace(), obj.GetName())
	cur, err := r.read(ctx, key)
	if err != nil {
		return stored{}, key, err
	}
	if uid := obj.GetUID(); uid != "" && uid != cur.object.GetUID() {
		return stored{}, key, conflict(key, fmt.Sprintf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", uid, cur.object.GetUID()))
	}
	return cur, key, checkVersion(key, cur, obj.GetResourceVersion())
}

// checkVersion compares with what people see, and with the object's own key:
// a status that moved on is no reason to refuse a change of the spec.
func checkVersion(key schema.Key, cur stored, rv string) error {
	if rv == "" || rv == "0" {
		return nil
	}
	at, err := strconv.ParseInt(rv, 10, 64)
	if err != nil {
		return invalidMeta(key, field.Invalid(field.NewPath("metadata", "resourceVersion"), rv, "must be a revision that the server gave out"))
	}
	if cur.mod <= at && at <= revisionOf(cur.joined().GetResourceVersion()) {
		return nil
	}
	return conflict(key, modified)
}

// modified is Kubernetes' registry.OptimisticLockErrorMsg.
const modified = "the object has been modified; please apply your changes to the latest version and try again"

func (r *Registries) prepareUpdate(ctx context.Context, w Write, attempt int) (write, error) {
	given := w.Update
	cur, key, err := r.current(ctx, given)
	if err != nil {
		return write{}, err
	}
	obj := given.DeepCopyObject().(schema.Object)
	r.keepSystemMeta(obj, cur.object)
	setStatus(obj, cur.object)
	if r.cfg.Validator != nil {
		r.cfg.Validator.Default(obj)
	}
	p := write{path: key.Path(), result: obj, guards: []Guard{{Key: key.Path(), Mod: cur.mod}}}
	if svc, ok := obj.(*corev1.Service); ok {
		old := cur.object.(*corev1.Service)
		if err := r.allocate(svc, old, attempt); err != nil {
			return write{}, err
		}
		p.given = given.(*corev1.Service)
		p.claim(claimsOf(svc), claimsOf(old))
	}
	kind, _ := schema.KindOf(obj)
	judge := r.validate
	if w.Resize {
		judge = r.validateResize
	}
	if err := judge(kind, obj, cur.object); err != nil {
		return write{}, err
	}
	return r.putChanged(p, obj, cur, revisionOf(given.GetResourceVersion()) != 0)
}

func (r *Registries) validateResize(kind *schema.Kind, obj, old schema.Object) error {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return apierrors.NewMethodNotSupported(groupResource(kind.Resource), "resize")
	}
	if r.cfg.Validator == nil {
		return nil
	}
	if errs := r.cfg.Validator.ValidateResize(pod, old.(*corev1.Pod)); len(errs) > 0 {
		return apierrors.NewInvalid(kind.GVK.GroupKind(), pod.Name, errs)
	}
	return nil
}

func (r *Registries) prepareUpdateStatus(ctx context.Context, given schema.Object) (write, error) {
	cur, key, err := r.current(ctx, given)
	if err != nil {
		return write{}, err
	}
	obj := cur.object.DeepCopyObject().(schema.Object)
	takeStatus(obj, given)
	p := write{path: key.Path(), result: obj, guards: []Guard{{Key: key.Path(), Mod: cur.mod}}}
	return r.putChanged(p, obj, cur, revisionOf(given.GetResourceVersion()) != 0)
}

// prepareUpdateEphemeral changes what Kubernetes' strategy of the subresource
// lets through: the ephemeral containers, and who manages them.
func (r *Registries) prepareUpdateEphemeral(ctx context.Context, given *corev1.Pod) (write, error) {
	cur, key, err := r.current(ctx, given)
	if err != nil {
		return write{}, err
	}
	old := cur.object.(*corev1.Pod)
	pod := old.DeepCopy()
	pod.Spec.EphemeralContainers = given.DeepCopy().Spec.EphemeralContainers
	if fields := given.GetManagedFields(); fields != nil {
		pod.SetManagedFields(fields)
	}
	if r.cfg.Validator != nil {
		r.cfg.Validator.Default(pod)
		if errs := r.cfg.Validator.ValidateEphemeral(pod, old); len(errs) > 0 {
			return write{}, apierrors.NewInvalid(schema.Pods.GVK.GroupKind(), pod.Name, errs)
		}
	}
	p := write{path: key.Path(), result: pod, guards: []Guard{{Key: key.Path(), Mod: cur.mod}}}
	return r.putChanged(p, pod, cur, revisionOf(given.GetResourceVersion()) != 0)
}

// putChanged stores the object unless it is what is there: a write that
// changes nothing writes nothing. One that takes away the last that held an
// object on its way out removes it. An update at a version that the caller named
// must not be tried again on a newer one.
func (r *Registries) putChanged(p write, obj schema.Object, cur stored, versioned bool) (write, error) {
	obj.SetResourceVersion(cur.object.GetResourceVersion())
	removed := cur.object.GetDeletionTimestamp() != nil && !held(obj)
	if !removed && equality.Semantic.DeepEqual(obj, cur.object) {
		return write{result: cur.joined(), path: p.path}, nil
	}
	if before := specOf(cur.object); before != nil && !equality.Semantic.DeepEqual(specOf(obj), before) {
		obj.SetGeneration(cur.object.GetGeneration() + 1)
	}
	obj.SetResourceVersion("")
	p.was = cur.joined().GetResourceVersion()
	if removed {
		p.remove(obj)
	} else if err := p.put(p.path, obj); err != nil {
		return write{}, err
	}
	p.result = join(obj, cur.status, cur.present)
	if versioned {
		p.path = ""
	}
	return p, nil
}
