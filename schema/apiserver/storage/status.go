package storage

import (
	"context"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// HasStatus reports whether the objects of a kind have a status.
func HasStatus(kind *schema.Kind) bool {
	return reflect.ValueOf(kind.New()).Elem().FieldByName("Status").IsValid()
}

// status is the status subresource of a kind: what is written there changes
// nothing else.
type status struct{ objects *objects }

var (
	_ rest.Patcher             = status{}
	_ rest.ResetFieldsStrategy = status{}
	_ rest.TableConvertor      = status{}
)

// NewStatus returns the storage of a kind's status.
func NewStatus(cfg *Config, kind *schema.Kind) rest.Storage {
	return status{newObjects(cfg, kind)}
}

// New implements rest.Storage.
func (s status) New() runtime.Object { return s.objects.New() }

// Destroy implements rest.Storage.
func (s status) Destroy() {}

// Get implements rest.Getter.
func (s status) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.objects.Get(ctx, name, opts)
}

// ConvertToTable implements rest.TableConvertor.
func (s status) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return s.objects.ConvertToTable(ctx, obj, opts)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s status) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	reset := fieldpath.NewSet()
	for _, path := range [][]any{
		{"spec"}, {"metadata", "labels"}, {"metadata", "annotations"}, {"metadata", "finalizers"}, {"metadata", "ownerReferences"},
	} {
		reset.Insert(fieldpath.MakePathOrDie(path...))
	}
	return map[fieldpath.APIVersion]*fieldpath.Set{fieldpath.APIVersion(s.objects.kind.GVK.GroupVersion().String()): reset}
}

// Update implements rest.Updater. It never creates.
func (s status) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	u := update{
		objects: s.objects, info: info, validate: validate, dryRun: opts.DryRun,
		put: func(obj schema.Object) registry.Write { return registry.Write{UpdateStatus: obj} },
	}
	obj, err := u.run(ctx, s.objects.key(ctx, name))
	return obj, false, err
}
