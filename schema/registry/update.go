package registry

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

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
		return stored{}, key, conflict(key, fmt.Sprintf("UID %s is gone, the object of that name now has %s", uid, cur.object.GetUID()))
	}
	return cur, key, checkVersion(key, cur, obj.GetResourceVersion())
}

// checkVersion compares with what people see, and with the object's own key:
// a status that moved on is no reason to refuse a change of the spec.
func checkVersion(key schema.Key, cur stored, rv string) error {
	if rv == "" || rv == cur.joined().GetResourceVersion() || revisionOf(rv) >= cur.mod {
		return nil
	}
	return conflict(key, "the object has been modified; read it again and apply the change to that")
}

func conflict(key schema.Key, why string) error {
	return apierrors.NewConflict(groupResource(key.Resource), key.Name, errors.New(why))
}

func (r *Registries) prepareUpdate(ctx context.Context, given schema.Object, attempt int) (write, error) {
	cur, key, err := r.current(ctx, given)
	if err != nil {
		return write{}, err
	}
	obj := given.DeepCopyObject().(schema.Object)
	keepSystemMeta(obj, cur.object)
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
	if err := r.validate(kind, obj, cur.object); err != nil {
		return write{}, err
	}
	return r.putChanged(p, obj, cur, given.GetResourceVersion() != "")
}

func (r *Registries) prepareUpdateStatus(ctx context.Context, given schema.Object) (write, error) {
	cur, key, err := r.current(ctx, given)
	if err != nil {
		return write{}, err
	}
	obj := cur.object.DeepCopyObject().(schema.Object)
	setStatus(obj, given)
	p := write{path: key.Path(), result: obj, guards: []Guard{{Key: key.Path(), Mod: cur.mod}}}
	return r.putChanged(p, obj, cur, given.GetResourceVersion() != "")
}

// putChanged stores the object unless it is what is there: a write that
// changes nothing writes nothing. An update at a version that the caller named
// must not be tried again on a newer one.
func (r *Registries) putChanged(p write, obj schema.Object, cur stored, versioned bool) (write, error) {
	obj.SetResourceVersion(cur.object.GetResourceVersion())
	if equality.Semantic.DeepEqual(obj, cur.object) {
		return write{result: cur.joined(), path: p.path}, nil
	}
	if before := specOf(cur.object); before != nil && !equality.Semantic.DeepEqual(specOf(obj), before) {
		obj.SetGeneration(cur.object.GetGeneration() + 1)
	}
	obj.SetResourceVersion("")
	p.was = cur.joined().GetResourceVersion()
	if err := p.put(p.path, obj); err != nil {
		return write{}, err
	}
	p.result = join(obj, cur.status, cur.present)
	if versioned {
		p.path = ""
	}
	return p, nil
}

// keepSystemMeta carries over what an update cannot change.
func keepSystemMeta(obj, old schema.Object) {
	obj.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetGeneration(old.GetGeneration())
	obj.SetGenerateName(old.GetGenerateName())
}

// specOf is the part of an object whose changes count in its generation; nil
// for kinds that have none.
func specOf(obj schema.Object) any {
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.Spec
	case *corev1.ReplicationController:
		return &o.Spec
	case *corev1.Service:
		return &o.Spec
	case *corev1.Node:
		return &o.Spec
	case *corev1.Namespace:
		return &o.Spec
	}
	return nil
}

// setStatus copies the status of an object of the same kind.
func setStatus(dst, src schema.Object) {
	switch d := dst.(type) {
	case *corev1.Pod:
		src.(*corev1.Pod).Status.DeepCopyInto(&d.Status)
	case *corev1.ReplicationController:
		src.(*corev1.ReplicationController).Status.DeepCopyInto(&d.Status)
	case *corev1.Service:
		src.(*corev1.Service).Status.DeepCopyInto(&d.Status)
	case *corev1.Node:
		src.(*corev1.Node).Status.DeepCopyInto(&d.Status)
	case *corev1.Namespace:
		src.(*corev1.Namespace).Status.DeepCopyInto(&d.Status)
	}
}
