// Package scheme says how the API's objects look on the wire: which Go type
// stands for which group, version and kind, what is defaulted when one is read,
// and by which fields a list can be selected.
//
// Only schema/apiserver and its packages use it. The Go types of k8s.io/api
// stand for the internal version of their group too, so that nothing is ever
// converted between the wire, the registries and the store.
package scheme

import (
	"net/url"
	"reflect"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	coreinternal "k8s.io/kubernetes/pkg/apis/core/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// Versioned knows every type of the API under the version in which it is
// served, and nothing else: OpenAPI names its definitions by it.
var Versioned = newVersioned()

// Scheme is Versioned with the internal versions, the defaults, the query
// parameters and the field labels.
var Scheme = newScheme()

// Codecs read and write JSON, YAML and protobuf.
var Codecs = serializer.NewCodecFactory(Scheme)

// ParameterCodec reads query parameters.
var ParameterCodec = runtime.NewParameterCodec(Scheme)

// newVersioned takes the kinds of the registries and what the API serves
// beside them.
func newVersioned() *runtime.Scheme {
	beside := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		authenticationv1.AddToScheme, authorizationv1.AddToScheme, autoscalingv1.AddToScheme,
		eventsv1.AddToScheme, metricsv1beta1.AddToScheme, policyv1.AddToScheme,
	} {
		utilruntime.Must(add(beside))
	}
	out := runtime.NewScheme()
	for _, from := range []*runtime.Scheme{schema.Scheme, beside} {
		for gvk, t := range from.AllKnownTypes() {
			if !isMeta(t) && gvk.Version != runtime.APIVersionInternal {
				out.AddKnownTypeWithName(gvk, reflect.New(t).Interface().(runtime.Object))
			}
		}
	}
	return out
}

// isMeta reports whether a type is one of those that every group version has.
func isMeta(t reflect.Type) bool {
	return strings.HasPrefix(t.PkgPath(), "k8s.io/apimachinery/")
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	known := Versioned.AllKnownTypes()
	versions := map[kschema.GroupVersion]bool{}
	for gvk, t := range known {
		s.AddKnownTypeWithName(gvk, reflect.New(t).Interface().(runtime.Object))
		versions[gvk.GroupVersion()] = true
	}
	for gvk, t := range known {
		hub := kschema.GroupVersionKind{Group: gvk.Group, Version: runtime.APIVersionInternal, Kind: gvk.Kind}
		if !s.Recognizes(hub) {
			s.AddKnownTypeWithName(hub, reflect.New(t).Interface().(runtime.Object))
		}
	}
	for gv := range versions {
		metav1.AddToGroupVersion(s, gv)
		utilruntime.Must(s.SetVersionPriority(gv))
	}
	for _, kind := range schema.Kinds {
		s.AddTypeDefaultingFunc(kind.New(), func(obj any) { validation.Default(obj.(schema.Object)) })
	}
	utilruntime.Must(addParameters(s))
	addFieldLabels(s)
	return s
}

// addParameters adds the query parameters of subresources.
func addParameters(s *runtime.Scheme) error {
	s.AddTypeDefaultingFunc(&corev1.PodLogOptions{}, func(obj any) {
		coreinternal.SetObjectDefaults_PodLogOptions(obj.(*corev1.PodLogOptions))
	})
	for _, add := range []error{
		addParameter(s, coreinternal.Convert_url_Values_To_v1_PodLogOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_PodExecOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_PodAttachOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_PodPortForwardOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_PodProxyOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_ServiceProxyOptions),
		addParameter(s, coreinternal.Convert_url_Values_To_v1_NodeProxyOptions),
	} {
		if add != nil {
			return add
		}
	}
	return nil
}

func addParameter[T any](s *runtime.Scheme, convert func(*url.Values, *T, conversion.Scope) error) error {
	return s.AddConversionFunc((*url.Values)(nil), (*T)(nil), func(in, out any, scope conversion.Scope) error {
		return convert(in.(*url.Values), out.(*T), scope)
	})
}

// Groups returns the groups of the kinds that the registries hold, sorted; the
// core group is "".
func Groups() []string {
	var out []string
	for _, kind := range schema.Kinds {
		if !slices.Contains(out, kind.GVK.Group) {
			out = append(out, kind.GVK.Group)
		}
	}
	slices.Sort(out)
	return out
}

// Shallow returns a copy of an object that shares all but its first level, so
// that an encoder may set its kind.
func Shallow(obj schema.Object) schema.Object {
	out := reflect.New(reflect.TypeOf(obj).Elem())
	out.Elem().Set(reflect.ValueOf(obj).Elem())
	return out.Interface().(schema.Object)
}

// NewList returns an empty list of a kind.
func NewList(kind *schema.Kind) runtime.Object {
	list, err := schema.Scheme.New(kind.GVK.GroupVersion().WithKind(kind.GVK.Kind + "List"))
	utilruntime.Must(err) // every kind of the registries has a list beside it
	return list
}

// List returns a list of a kind that holds shallow copies of objects, as
// Kubernetes has them in lists: without kind and version. items is never nil.
func List(kind *schema.Kind, objs []schema.Object) runtime.Object {
	list := NewList(kind)
	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	slice := reflect.MakeSlice(items.Type(), len(objs), len(objs))
	for i, obj := range objs {
		item := slice.Index(i)
		item.Set(reflect.ValueOf(obj).Elem())
		item.Addr().Interface().(runtime.Object).GetObjectKind().SetGroupVersionKind(kschema.GroupVersionKind{})
	}
	items.Set(slice)
	return list
}
