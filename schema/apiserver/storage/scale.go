package storage

import (
	"context"
	"fmt"
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// HasScale reports whether a kind can be scaled: whether its spec says how many
// replicas there are to be.
func HasScale(kind *schema.Kind) bool {
	spec := reflect.ValueOf(kind.New()).Elem().FieldByName("Spec")
	return spec.IsValid() && HasStatus(kind) && spec.FieldByName("Replicas").IsValid() && spec.FieldByName("Selector").IsValid()
}

// scale is the scale subresource of a kind, an autoscaling/v1 Scale.
type scale struct{ objects *objects }

var (
	_ rest.Patcher                  = scale{}
	_ rest.GroupVersionKindProvider = scale{}
	_ rest.TableConvertor           = scale{}
)

// NewScale returns the storage of a kind's scale.
func NewScale(cfg *Config, kind *schema.Kind) rest.Storage {
	return scale{newObjects(cfg, kind)}
}

// New implements rest.Storage.
func (s scale) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy implements rest.Storage.
func (s scale) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (s scale) GroupVersionKind(kschema.GroupVersion) kschema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

// ConvertToTable implements rest.TableConvertor.
func (s scale) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return rest.NewDefaultTableConvertor(s.objects.groupResource()).ConvertToTable(ctx, obj, opts)
}

// Get implements rest.Getter.
func (s scale) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.objects.Get(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	return s.scaleOf(obj.(schema.Object))
}

// Update implements rest.Updater.
func (s scale) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	u := update{
		objects: s.objects, info: scaled{info, s, validate}, dryRun: opts.DryRun, owned: true,
		put: func(obj schema.Object) registry.Write { return registry.Write{Update: obj} },
	}
	obj, err := u.run(ctx, s.objects.key(ctx, name))
	if err != nil {
		return nil, false, err
	}
	out, err := s.scaleOf(obj)
	return out, false, err
}

// scaled turns a change of the scale into one of the object.
type scaled struct {
	rest.UpdatedObjectInfo
	scale    scale
	validate rest.ValidateObjectUpdateFunc
}

// UpdatedObject implements rest.UpdatedObjectInfo.
func (c scaled) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	obj := old.DeepCopyObject().(schema.Object)
	before, err := c.scale.scaleOf(obj)
	if err != nil {
		return nil, err
	}
	updated, err := c.UpdatedObjectInfo.UpdatedObject(ctx, before)
	if err != nil {
		return nil, err
	}
	after, ok := updated.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", updated))
	}
	if after.Spec.Replicas < 0 {
		gk := autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind()
		path := field.NewPath("spec", "replicas")
		return nil, apierrors.NewInvalid(gk, after.Name, field.ErrorList{field.Invalid(path, after.Spec.Replicas, "must be greater than or equal to 0")})
	}
	if c.validate != nil {
		if err := c.validate(ctx, after, before); err != nil {
			return nil, err
		}
	}
	reflect.ValueOf(obj).Elem().FieldByName("Spec").FieldByName("Replicas").Set(reflect.ValueOf(&after.Spec.Replicas))
	obj.SetResourceVersion(after.ResourceVersion)
	handler := c.scale.fields(obj)
	managed, err := handler.ToParent(after.ManagedFields)
	if err != nil {
		return nil, fmt.Errorf("managed fields of a scale: %w", err)
	}
	obj.SetManagedFields(managed)
	return obj, nil
}

// fields maps who manages an object's replicas to who manages its scale's.
func (s scale) fields(obj schema.Object) *managedfields.ScaleHandler {
	return managedfields.NewScaleHandler(obj.GetManagedFields(), s.objects.kind.GVK.GroupVersion(), managedfields.ResourcePathMappings{
		s.objects.kind.GVK.GroupVersion().String(): fieldpath.MakePathOrDie("spec", "replicas"),
	})
}

// scaleOf is the scale of an object.
func (s scale) scaleOf(obj schema.Object) (*autoscalingv1.Scale, error) {
	managed, err := s.fields(obj).ToSubresource()
	if err != nil {
		return nil, fmt.Errorf("managed fields of %s: %w", schema.KeyOf(obj), err)
	}
	v := reflect.ValueOf(obj).Elem()
	out := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(), ManagedFields: managed,
	}}
	if n, ok := v.FieldByName("Spec").FieldByName("Replicas").Interface().(*int32); ok && n != nil {
		out.Spec.Replicas = *n
	}
	out.Status.Replicas = int32(v.FieldByName("Status").FieldByName("Replicas").Int())
	switch selector := v.FieldByName("Spec").FieldByName("Selector").Interface().(type) {
	case map[string]string:
		out.Status.Selector = labels.SelectorFromSet(selector).String()
	case *metav1.LabelSelector:
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return nil, fmt.Errorf("selector of %s: %w", schema.KeyOf(obj), err)
		}
		out.Status.Selector = parsed.String()
	}
	return out, nil
}
