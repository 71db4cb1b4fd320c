package registry

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

func (r *Registries) prepareCreate(ctx context.Context, given schema.Object, attempt int, accounts *accounts) (write, error) {
	kind, err := schema.KindOf(given)
	if err != nil {
		return write{}, apierrors.NewBadRequest(err.Error())
	}
	obj := given.DeepCopyObject().(schema.Object)
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK)
	if err := r.fillMeta(kind, obj); err != nil {
		return write{}, err
	}
	if r.cfg.Validator != nil {
		r.cfg.Validator.Default(obj)
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		if err := accounts.admit(ctx, pod); err != nil {
			return write{}, err
		}
	}
	p := write{result: obj}
	if svc, ok := obj.(*corev1.Service); ok {
		if err := r.allocate(svc, nil, attempt); err != nil {
			return write{}, err
		}
		p.given = given.(*corev1.Service)
		p.claim(claimsOf(svc), nil)
	}
	initStatus(obj, obj.GetCreationTimestamp())
	if err := r.validate(kind, obj, nil); err != nil {
		return write{}, err
	}
	key := schema.KeyOf(obj)
	p.path = key.Path()
	p.guards = append(p.guards, Guard{Key: p.path, Mod: Absent})
	if kind.Namespaced {
		p.guards = append(p.guards, Guard{Key: schema.Namespaces.Key("", key.Namespace).Path(), Mod: Present})
		p.guards = append(p.guards, Guard{Key: schema.TerminatingPrefix + key.Namespace, Mod: Absent})
	}
	return p, p.put(p.path, obj)
}

// put adds the operation that stores an object, and for a bound pod the copy
// that its node reads.
func (p *write) put(path string, obj schema.Object) error {
	data, err := schema.Encode(obj)
	if err != nil {
		return err
	}
	if len(data) > MaxValue {
		return newTooLarge(schema.KeyOf(obj), len(data))
	}
	p.ops = append(p.ops, Put(path, data))
	if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
		p.ops = append(p.ops, Put(schema.BindingPath(pod.Spec.NodeName, schema.KeyOf(pod)), data))
	}
	return nil
}

// claim adds what it takes to hold the claims in want and to let go of the
// others in have.
func (p *write) claim(want, have map[string]bool) {
	for path := range want {
		if !have[path] {
			p.guards = append(p.guards, Guard{Key: path, Mod: Absent})
			p.ops = append(p.ops, Put(path, nil))
		}
	}
	for path := range have {
		if !want[path] {
			p.ops = append(p.ops, Delete(path))
		}
	}
}

// validate judges an object, against the old one if there is one.
func (r *Registries) validate(kind *schema.Kind, obj, old schema.Object) error {
	if r.cfg.Validator == nil {
		return nil
	}
	var errs field.ErrorList
	if old == nil {
		errs = r.cfg.Validator.Validate(obj)
	} else {
		errs = r.cfg.Validator.ValidateUpdate(obj, old)
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(kind.GVK.GroupKind(), obj.GetName(), errs)
	}
	return nil
}
