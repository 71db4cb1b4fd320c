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

// resize is the subresource through which the containers of a pod get other
// CPU and memory while it runs (Kubernetes: "Resize CPU and Memory Resources
// assigned to Containers"): a pod of which that alone can change.
type resize struct{ pods *objects }

var (
	_ rest.Patcher                   = resize{}
	_ rest.ResetFieldsFilterStrategy = resize{}
	_ rest.TableConvertor            = resize{}
)

// NewResize returns the storage of pods/resize.
func NewResize(cfg *Config) rest.Storage { return resize{newObjects(cfg, schema.Pods)} }

// New implements rest.Storage.
func (s resize) New() runtime.Object { return s.pods.New() }

// Destroy implements rest.Storage.
func (s resize) Destroy() {}

// Get implements rest.Getter.
func (s resize) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	return s.pods.Get(ctx, name, opts)
}

// ConvertToTable implements rest.TableConvertor.
func (s resize) ConvertToTable(ctx context.Context, obj, opts runtime.Object) (*metav1.Table, error) {
	return s.pods.ConvertToTable(ctx, obj, opts)
}

// GetResetFieldsFilter implements rest.ResetFieldsFilterStrategy.
func (s resize) GetResetFieldsFilter() map[fieldpath.APIVersion]fieldpath.Filter {
	matchers := []*fieldpath.SetMatcher{fieldpath.MakePrefixMatcherOrDie("spec", "resources")}
	for _, list := range []string{"containers", "initContainers"} {
		for _, name := range []string{"resources", "resizePolicy"} {
			matchers = append(matchers, fieldpath.MakePrefixMatcherOrDie("spec", list, fieldpath.MatchAnyPathElement(), name))
		}
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(schema.Pods.GVK.GroupVersion().String()): fieldpath.NewIncludeMatcherFilter(matchers...),
	}
}

// Update implements rest.Updater. It never creates.
func (s resize) Update(
	ctx context.Context, name string, info rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc,
	validate rest.ValidateObjectUpdateFunc, _ bool, opts *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	u := update{
		objects: s.pods, info: rest.WrapUpdatedObjectInfo(info, onlyResources), validate: validate, dryRun: opts.DryRun, owned: true,
		put: func(obj schema.Object) registry.Write { return registry.Write{Update: obj, Resize: true} },
	}
	obj, err := u.run(ctx, s.pods.key(ctx, name))
	return obj, false, err
}

// onlyResources is a pod as it is with the resources of another. Where the two
// have other containers, it is the other, for the validation to refuse.
func onlyResources(_ context.Context, wanted, existing runtime.Object) (runtime.Object, error) {
	given, ok := wanted.(*corev1.Pod)
	if !ok {
		return wanted, nil
	}
	pod := existing.(*corev1.Pod).DeepCopy()
	if !takeResources(pod.Spec.Containers, given.Spec.Containers) || !takeResources(pod.Spec.InitContainers, given.Spec.InitContainers) {
		return wanted, nil
	}
	if given.Spec.Resources != nil {
		pod.Spec.Resources = given.Spec.Resources
	}
	pod.UID, pod.ResourceVersion = given.UID, given.ResourceVersion
	if given.ManagedFields != nil {
		pod.ManagedFields = given.ManagedFields
	}
	return pod, nil
}

func takeResources(to, from []corev1.Container) bool {
	if len(to) != len(from) {
		return false
	}
	for i := range to {
		if to[i].Name != from[i].Name {
			return false
		}
		to[i].Resources, to[i].ResizePolicy = from[i].Resources, from[i].ResizePolicy
	}
	return true
}
