package registry

import (
	"crypto/rand"
	"encoding/base32"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// maxGenerated is how much of a generateName is kept, so that the name stays a
// DNS label (as k8s.io/apiserver/pkg/storage/names does).
const maxGenerated = 58

func (r *Registries) prepareCreate(given schema.Object, attempt int) (write, error) {
	kind, err := schema.KindOf(given)
	if err != nil {
		return write{}, apierrors.NewBadRequest(err.Error())
	}
	obj := given.DeepCopyObject().(schema.Object)
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK)
	r.fillMeta(kind, obj)
	if r.cfg.Validator != nil {
		r.cfg.Validator.Default(obj)
	}
	p := write{result: obj}
	if svc, ok := obj.(*corev1.Service); ok {
		if err := r.allocate(svc, nil, attempt); err != nil {
			return write{}, err
		}
		p.given = given.(*corev1.Service)
		p.claim(claimsOf(svc), nil)
	}
	initStatus(obj)
	if err := r.validate(kind, obj, nil); err != nil {
		return write{}, err
	}
	key := schema.KeyOf(obj)
	p.path = key.Path()
	p.guards = append(p.guards, Guard{Key: p.path, Mod: Absent})
	if kind.Namespaced {
		p.guards = append(p.guards, Guard{Key: schema.Namespaces.Key("", obj.GetNamespace()).Path(), Mod: Present})
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

// fillMeta sets what the system, and nobody else, says of a new object.
func (r *Registries) fillMeta(kind *schema.Kind, obj schema.Object) {
	if !kind.Namespaced {
		obj.SetNamespace("")
	} else if obj.GetNamespace() == "" {
		obj.SetNamespace(metav1.NamespaceDefault)
	}
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	obj.SetUID(newUID())
	obj.SetCreationTimestamp(metav1.Time{Time: r.cfg.Now().UTC().Truncate(1e9)})
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetResourceVersion("")
	obj.SetGeneration(0)
	if specOf(obj) != nil {
		obj.SetGeneration(1)
	}
}

func newUID() types.UID { return types.UID(uuid.NewString()) }

func generateName(prefix string) string {
	if len(prefix) > maxGenerated {
		prefix = prefix[:maxGenerated]
	}
	var b [5]byte
	rand.Read(b[:])
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))[:5]
}

// initStatus drops any status that came with a new object and sets the one
// that its kind begins with.
func initStatus(obj schema.Object) {
	switch o := obj.(type) {
	case *corev1.Pod:
		o.Status = corev1.PodStatus{Phase: corev1.PodPending}
	case *corev1.ReplicationController:
		o.Status = corev1.ReplicationControllerStatus{}
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
	case *corev1.Node:
		o.Status = corev1.NodeStatus{}
	case *corev1.Namespace:
		o.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
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
