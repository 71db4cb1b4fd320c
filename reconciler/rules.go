package reconciler

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// Rules are Kubernetes' defaults and validation as a registry.Validator.
type Rules struct{}

// Default fills in what an object leaves out.
func (Rules) Default(obj schema.Object) { validation.Default(obj) }

// Validate judges a new object.
func (Rules) Validate(obj schema.Object) field.ErrorList { return validation.Validate(obj) }

// ValidateUpdate judges a change.
func (Rules) ValidateUpdate(updated, old schema.Object) field.ErrorList {
	return validation.ValidateUpdate(updated, old)
}

// ValidateEphemeral judges a change of a pod's ephemeral containers.
func (Rules) ValidateEphemeral(updated, old *corev1.Pod) field.ErrorList {
	return validation.ValidateEphemeral(updated, old)
}

// ValidateResize judges a change of a pod's CPU and memory.
func (Rules) ValidateResize(updated, old *corev1.Pod) field.ErrorList {
	return validation.ValidateResize(updated, old)
}

// item rebuilds a declared object from its inventory entry.
func (o Owned) item(key schema.Key) (manifests.Item, error) {
	kind, ok := schema.KindOfResource(key.Resource)
	if !ok {
		return manifests.Item{}, fmt.Errorf("inventory %s: unknown resource", key)
	}
	obj := kind.New()
	if err := json.Unmarshal(o.Entry.Declared, obj); err != nil {
		return manifests.Item{}, fmt.Errorf("inventory %s: %w", key, err)
	}
	validation.Default(obj)
	return manifests.Item{Key: key, Object: obj, Declared: o.Entry.Declared, Hash: o.Entry.Hash, Place: o.Entry.place(o.Source)}, nil
}
