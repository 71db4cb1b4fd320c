package storage

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// ephemeral is the subresource through which a pod gets ephemeral containers
// (Kubernetes: "Ephemeral Containers"): a pod of which that alone can change.
// No manifest declares them, so that nothing of them is git's.
type ephemeral struct{ pods *objects }

var (
	_ rest.Patcher                   = ephemeral{}
	_ rest.ResetFieldsFilterStrategy = ephemeral{}
	_ rest.TableConvertor            = ephemeral{}
)

// NewEphemeralContainers returns the storage of pods/ephemeralcontainers.
func NewEphemeralContainers(cfg *Config) rest.Storage {
	return ephemeral{newObjects(cfg, schema.Pods)}
}

// New implements rest.Storage.
func (s ephemeral) New() runtime.Object { return s.pods.New() }

// Destroy implements rest.Storage.
func (s ephemeral) Destroy() {}

// Get implements rest.Getter.
func (s ephemeral) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.pods.Get(ctx, name, opts)
}

// ConvertToTable implements rest.TableConvertor.
func (s ephemeral) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return s.pods.ConvertToTable(ctx, obj, opts)
}

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy.
func (s ephemeral) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	only := fieldpath.NewIncludeMatcherFilter(fieldpath.MakePrefixMatcherOrDie("spec", "ephemeralContainers"))
	return map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(schema.Pods.GVK.GroupVersion().String()): only}
}

// Update implements rest.Updater. It never creates.
func (s ephemeral) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	u := update{
		objects: s.pods, info: info, validate: validate, dryRun: opts.DryRun,
		put: func(obj schema.Object) registry.Write { return registry.Write{UpdateEphemeral: obj.(*corev1.Pod)} },
	}
	obj, err := u.run(ctx, s.pods.key(ctx, name))
	return obj, false, err
}
