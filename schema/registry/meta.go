package registry

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// How generated names are made: so much of the prefix is kept that the name
// stays a DNS label (k8s.io/apiserver/pkg/storage/names), and so often another
// one is tried where it is taken.
const (
	maxGenerated   = 58
	generatedChars = 5
	nameTries      = 8
)

// fillMeta sets what the system, and nobody else, says of a new object. The
// rules are those of BeforeCreate in the Kubernetes API server.
func (r *Registries) fillMeta(kind *schema.Kind, obj schema.Object) error {
	if !kind.Namespaced {
		obj.SetNamespace("")
	} else if obj.GetNamespace() == "" {
		obj.SetNamespace(metav1.NamespaceDefault)
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != "0" {
		return apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	if obj.GetName() == "" {
		return invalidMeta(kind.Key("", ""), field.Required(field.NewPath("metadata", "name"), "name or generateName is required"))
	}
	obj.SetUID(newUID())
	obj.SetCreationTimestamp(*r.in(0))
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	obj.SetResourceVersion("")
	obj.SetGeneration(0)
	if specOf(obj) != nil {
		obj.SetGeneration(1)
	}
	return nil
}

func newUID() types.UID { return types.UID(uuid.NewString()) }

func generateName(prefix string) string {
	return prefix[:min(len(prefix), maxGenerated)] + rand.String(generatedChars)
}

// namedByUs reports whether a write creates an object whose name is generated.
func namedByUs(w Write) bool {
	return w.Create != nil && w.Create.GetName() == "" && w.Create.GetGenerateName() != ""
}

// takenName reports whether a create failed because the name that was
// generated for it is taken.
func takenName(err error, w Write) bool { return namedByUs(w) && apierrors.IsAlreadyExists(err) }

// keepSystemMeta carries over what an update cannot change. A deletion
// timestamp cannot be taken away; that it cannot be set is the Validator's to
// say, as it is in BeforeUpdate of the Kubernetes API server.
func (r *Registries) keepSystemMeta(obj, old schema.Object) {
	obj.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	obj.SetNamespace(old.GetNamespace())
	obj.SetUID(old.GetUID())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetGeneration(old.GetGeneration())
	obj.SetSelfLink("")
	if r.cfg.Validator == nil || old.GetDeletionTimestamp() != nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if r.cfg.Validator == nil || obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Spec.Finalizers = old.(*corev1.Namespace).Spec.Finalizers
	}
}

// specOf is the part of an object whose changes count in its generation; nil
// for kinds that have none, as in Kubernetes' strategies.
func specOf(obj schema.Object) any {
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.Spec
	case *corev1.ReplicationController:
		return &o.Spec
	case *discoveryv1.EndpointSlice:
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Labels: o.Labels}, AddressType: o.AddressType, Endpoints: o.Endpoints, Ports: o.Ports,
		}
	}
	return nil
}

// terminating is the error of a create in a namespace that is being deleted,
// that of Kubernetes' admission plugin NamespaceLifecycle.
func (p write) terminating(namespace string) error {
	key := schema.KeyOf(p.result)
	err := apierrors.NewForbidden(groupResource(key.Resource), key.Name,
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", namespace), Field: "metadata.namespace",
	})
	return err
}

// tooLarge is the error of an object that no store takes: Kubernetes' 413,
// and ErrTooLarge.
type tooLarge struct{ *apierrors.StatusError }

func newTooLarge(key schema.Key, size int) error {
	return tooLarge{apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s has %d bytes in the store, at most %d", key, size, MaxValue))}
}

// Is makes errors.Is(err, ErrTooLarge) hold.
func (tooLarge) Is(target error) bool { return target == ErrTooLarge }

// Unwrap returns the status.
func (e tooLarge) Unwrap() error { return e.StatusError }

func conflict(key schema.Key, why string) error {
	return apierrors.NewConflict(groupResource(key.Resource), key.Name, errors.New(why))
}

func invalidMeta(key schema.Key, err *field.Error) error {
	gk := kschema.GroupKind{Kind: key.Resource}
	if k, ok := schema.KindOfResource(key.Resource); ok {
		gk = k.GVK.GroupKind()
	}
	return apierrors.NewInvalid(gk, key.Name, field.ErrorList{err})
}
