// Package validation gives Kubernetes' own defaults and Kubernetes' own
// validation to the kinds that Evenkeel knows: it calls the code of
// k8s.io/kubernetes, hand-written and declarative, the way the API server's
// create and update paths do.
//
// Manifests, the registries and the API call it. It keeps no state, does no
// I/O, and is never imported by the node agent or the proxy, which only see
// objects that have passed here.
package validation

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationv1internal "k8s.io/kubernetes/pkg/apis/coordination/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1internal "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1internal "k8s.io/kubernetes/pkg/apis/discovery/v1"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacv1internal "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagev1internal "k8s.io/kubernetes/pkg/apis/storage/v1"
	"k8s.io/kubernetes/pkg/capabilities"

	"github.com/evenkeel/evenkeel/schema"
)

// scheme holds the versioned and the internal types with Kubernetes'
// conversions, defaults and declarative validation.
var scheme = newScheme()

// Pods may be privileged, as in every cluster that runs its own networking:
// who may declare one is decided by who may write to git and by the API's roles.
func init() { capabilities.Setup(true, 0) }

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(core.AddToScheme(s))
	utilruntime.Must(corev1internal.AddToScheme(s))
	utilruntime.Must(discovery.AddToScheme(s))
	utilruntime.Must(discoveryv1internal.AddToScheme(s))
	utilruntime.Must(rbac.AddToScheme(s))
	utilruntime.Must(rbacv1internal.AddToScheme(s))
	utilruntime.Must(storage.AddToScheme(s))
	utilruntime.Must(storagev1internal.AddToScheme(s))
	utilruntime.Must(coordination.AddToScheme(s))
	utilruntime.Must(coordinationv1internal.AddToScheme(s))
	return s
}

// Default fills in place what the API server would fill in before it
// validates. Beyond Kubernetes' defaults it does what its create path does
// without choosing anything: a secret's stringData moves into data, and a
// service's clusterIP is repeated as the first of clusterIPs. Addresses, ports
// and uids are given by the registries, not here. Default is idempotent.
func Default(obj schema.Object) {
	switch o := obj.(type) {
	case *corev1.Secret:
		moveStringData(o)
	case *corev1.Service:
		if o.Spec.ClusterIP != "" && len(o.Spec.ClusterIPs) == 0 {
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
	}
	scheme.Default(obj)
	if rc, ok := obj.(*corev1.ReplicationController); ok {
		// Kubernetes lets one map serve as labels, selector and template
		// labels; it then codes and decodes the object, which parts them.
		rc.Labels = maps.Clone(rc.Labels)
		rc.Spec.Selector = maps.Clone(rc.Spec.Selector)
	}
}

// moveStringData is what Kubernetes' conversion does when a secret is
// written: stringData wins over data and is never read back.
func moveStringData(s *corev1.Secret) {
	if len(s.StringData) == 0 {
		s.StringData = nil
		return
	}
	if s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

// Validate returns all that Kubernetes has against creating the object, nil
// when nothing. The object must have been through Default, and is not
// changed. A service without its cluster IP or node ports passes, as it does
// in the API server before they are allocated.
func Validate(obj schema.Object) field.ErrorList {
	internal, err := Internal(obj)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	ctx := context.Background()
	written := validateCreate(internal)
	declared := scheme.Validate(ctx, declarativeOptions, obj)
	return enforce(ctx, written, declared)
}

// ValidateUpdate returns all that Kubernetes has against replacing old by new:
// everything that is wrong with new, and every change of a field that may not
// change. Both must have been through Default; neither is changed. As in the
// API server, a new object without a resourceVersion is an error only if the
// caller makes it one.
func ValidateUpdate(obj, old schema.Object) field.ErrorList {
	if obj.GetResourceVersion() == "" {
		obj = obj.DeepCopyObject().(schema.Object)
		obj.SetResourceVersion(resourceVersionOf(old))
	}
	newInternal, err := Internal(obj)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	oldInternal, err := Internal(old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	ctx := context.Background()
	written := validateUpdate(newInternal, oldInternal)
	declared := scheme.ValidateUpdate(ctx, declarativeOptions, obj, old)
	return enforce(ctx, written, declared)
}

// resourceVersionOf is the version to compare with where the new object names
// none. Kubernetes' checks ask only that there is one.
func resourceVersionOf(old schema.Object) string {
	if rv := old.GetResourceVersion(); rv != "" {
		return rv
	}
	return "1"
}

// enforce joins hand-written and declarative findings as the API server does
// (k8s.io/apiserver/pkg/registry/rest ValidateDeclarativelyWithMigrationChecks):
// a declarative rule that is in force replaces the hand-written one it covers.
func enforce(ctx context.Context, written, declared field.ErrorList) field.ErrorList {
	if len(written) == 0 && len(declared) == 0 {
		return nil
	}
	inForce := validate.FilterEnforcedDeclarativeErrors(ctx, declared, true)
	errs := validate.FilterCoveredHandwrittenErrors(ctx, written.MarkFromImperative(), inForce, true)
	return append(errs, inForce...)
}

// Internal converts to Kubernetes' internal type, which hand-written validation
// and the columns of `kubectl get` read. The result shares memory with obj and
// is only to be read, as in the API server, which judges what it has decoded in
// the same way.
func Internal(obj schema.Object) (runtime.Object, error) {
	k, err := schema.KindOf(obj)
	if err != nil {
		return nil, err
	}
	internal, err := scheme.UnsafeConvertToVersion(obj, internalVersion(k))
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", schema.KeyOf(obj), err)
	}
	return internal, nil
}

func internalVersion(k *schema.Kind) runtime.GroupVersioner {
	return kschema.GroupVersion{Group: k.GVK.Group, Version: runtime.APIVersionInternal}
}

// declarativeOptions names every option that a declarative rule of our kinds
// reads; a missing one is an internal error there.
var declarativeOptions = map[string]bool{
	"InPlacePodVerticalScalingSchedulerPreemption": false,
}
