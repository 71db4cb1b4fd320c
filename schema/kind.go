package schema

import (
	"fmt"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// Object is any Kubernetes object that has metadata: a pointer to one of the
// types in k8s.io/api.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind describes one kind that the registries hold.
type Kind struct {
	GVK        kschema.GroupVersionKind
	Resource   string   // plural, lower case, as in URLs and etcd keys
	Singular   string   // lower case
	ShortNames []string // as kubectl knows them
	Namespaced bool

	// Declarable kinds may stand in a manifest; the others are made by the
	// system alone.
	Declarable bool

	// Order is the place of the kind when a plan is applied: lower first.
	// Deletions go the other way round.
	Order int

	// New returns an empty object of the kind with its TypeMeta set.
	New func() Object
}

// The kinds by resource name, for callers that need one in particular.
var (
	Pods                   = kind(corev1.SchemeGroupVersion.WithKind("Pod"), "pods", true, true, 60, func() Object { return &corev1.Pod{} }, "po")
	ReplicationControllers = kind(corev1.SchemeGroupVersion.WithKind("ReplicationController"), "replicationcontrollers", true, true, 70, func() Object { return &corev1.ReplicationController{} }, "rc")
	Services               = kind(corev1.SchemeGroupVersion.WithKind("Service"), "services", true, true, 50, func() Object { return &corev1.Service{} }, "svc")
	Endpoints              = kind(corev1.SchemeGroupVersion.WithKind("Endpoints"), "endpoints", true, true, 55, func() Object { return &corev1.Endpoints{} }, "ep")
	EndpointSlices         = kind(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), "endpointslices", true, true, 55, func() Object { return &discoveryv1.EndpointSlice{} })
	Nodes                  = kind(corev1.SchemeGroupVersion.WithKind("Node"), "nodes", false, true, 20, func() Object { return &corev1.Node{} }, "no")
	Namespaces             = kind(corev1.SchemeGroupVersion.WithKind("Namespace"), "namespaces", false, true, 10, func() Object { return &corev1.Namespace{} }, "ns")
	ConfigMaps             = kind(corev1.SchemeGroupVersion.WithKind("ConfigMap"), "configmaps", true, true, 30, func() Object { return &corev1.ConfigMap{} }, "cm")
	Secrets                = kind(corev1.SchemeGroupVersion.WithKind("Secret"), "secrets", true, true, 30, func() Object { return &corev1.Secret{} })
	ServiceAccounts        = kind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"), "serviceaccounts", true, true, 28, func() Object { return &corev1.ServiceAccount{} }, "sa")
	ClusterRoles           = kind(rbacv1.SchemeGroupVersion.WithKind("ClusterRole"), "clusterroles", false, true, 24, func() Object { return &rbacv1.ClusterRole{} })
	ClusterRoleBindings    = kind(rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"), "clusterrolebindings", false, true, 26, func() Object { return &rbacv1.ClusterRoleBinding{} })
	Roles                  = kind(rbacv1.SchemeGroupVersion.WithKind("Role"), "roles", true, true, 24, func() Object { return &rbacv1.Role{} })
	RoleBindings           = kind(rbacv1.SchemeGroupVersion.WithKind("RoleBinding"), "rolebindings", true, true, 26, func() Object { return &rbacv1.RoleBinding{} })
	StorageClasses         = kind(storagev1.SchemeGroupVersion.WithKind("StorageClass"), "storageclasses", false, true, 22, func() Object { return &storagev1.StorageClass{} }, "sc")
	PersistentVolumes      = kind(corev1.SchemeGroupVersion.WithKind("PersistentVolume"), "persistentvolumes", false, true, 36, func() Object { return &corev1.PersistentVolume{} }, "pv")
	PersistentVolumeClaims = kind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), "persistentvolumeclaims", true, true, 38, func() Object { return &corev1.PersistentVolumeClaim{} }, "pvc")
	Leases                 = kind(coordinationv1.SchemeGroupVersion.WithKind("Lease"), "leases", true, false, 90, func() Object { return &coordinationv1.Lease{} })
	Events                 = kind(corev1.SchemeGroupVersion.WithKind("Event"), "events", true, false, 90, func() Object { return &corev1.Event{} }, "ev")
)

// Kinds lists all kinds in the order in which they are applied.
var Kinds = []*Kind{
	Namespaces, Nodes, StorageClasses, ClusterRoles, Roles, ClusterRoleBindings, RoleBindings, ServiceAccounts,
	ConfigMaps, Secrets, PersistentVolumes, PersistentVolumeClaims, Services, Endpoints, EndpointSlices,
	Pods, ReplicationControllers, Leases, Events,
}

// Scheme knows the Go type of every kind, and no defaults: those are
// schema/validation's.
var Scheme = newScheme()

var (
	byGVK      = map[kschema.GroupVersionKind]*Kind{}
	byResource = map[string]*Kind{}
)

func init() {
	for _, k := range Kinds {
		byGVK[k.GVK] = k
		byResource[k.Resource] = k
	}
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(s))
	utilruntime.Must(discoveryv1.AddToScheme(s))
	utilruntime.Must(rbacv1.AddToScheme(s))
	utilruntime.Must(storagev1.AddToScheme(s))
	utilruntime.Must(coordinationv1.AddToScheme(s))
	return s
}

func kind(gvk kschema.GroupVersionKind, resource string, namespaced, declarable bool, order int, empty func() Object, short ...string) *Kind {
	return &Kind{
		GVK: gvk, Resource: resource, Singular: strings.ToLower(gvk.Kind), ShortNames: short,
		Namespaced: namespaced, Declarable: declarable, Order: order,
		New: func() Object {
			obj := empty()
			obj.GetObjectKind().SetGroupVersionKind(gvk)
			return obj
		},
	}
}

// KindFor returns the kind of a group, version and kind, or false where
// Evenkeel does not have it.
func KindFor(gvk kschema.GroupVersionKind) (*Kind, bool) {
	k, ok := byGVK[gvk]
	return k, ok
}

// KindOfResource returns the kind of a plural resource name, or false.
func KindOfResource(resource string) (*Kind, bool) {
	k, ok := byResource[resource]
	return k, ok
}

// KindNamed returns the kind that a person means by a word: plural, singular
// or short name, in any case.
func KindNamed(word string) (*Kind, bool) {
	word = strings.ToLower(word)
	for _, k := range Kinds {
		if k.Resource == word || k.Singular == word {
			return k, true
		}
		for _, s := range k.ShortNames {
			if s == word {
				return k, true
			}
		}
	}
	return nil, false
}

// KindOf returns the kind of an object by its Go type, whether or not its
// TypeMeta is set. The error names the type.
func KindOf(obj Object) (*Kind, error) {
	if k, ok := byGVK[obj.GetObjectKind().GroupVersionKind()]; ok {
		return k, nil
	}
	gvks, _, err := Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, fmt.Errorf("kind of %T: %w", obj, err)
	}
	for _, gvk := range gvks {
		if k, ok := byGVK[gvk]; ok {
			return k, nil
		}
	}
	return nil, fmt.Errorf("kind of %T: not a kind that the registries hold", obj)
}
