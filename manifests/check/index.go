package check

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// index is all objects, arranged for the questions that checks ask. The order
// within its lists means nothing.
type index struct {
	objects    map[schema.Key]*object
	services   map[string][]*object // by namespace
	labelled   map[label][]*object  // workloads
	workloadIn map[string][]*object // by namespace
	names      map[family][]string  // of what pods refer to
	namespaces map[string]bool      // that exist
	inhabited  map[string]int       // how many declared objects are in a namespace
	claims     map[claimed][]claim  // of services
	contested  map[claimed]bool     // claims of which there are several
}

// object is what is declared under a key, or else what the cluster has there.
type object struct {
	key    schema.Key
	item   *manifests.Item // nil for one of the cluster
	set    int             // that declares it
	beside schema.Object   // what the cluster has, if a set declares it too

	isService bool

	// Of a pod, or of what makes pods; spec is nil for all else.
	labels   map[string]string
	spec     *corev1.PodSpec
	path     string // of spec in the object
	replicas int
}

type label struct{ namespace, key, value string }

// family is the objects of a kind in a namespace.
type family struct{ resource, namespace string }

func newIndex(n int) *index {
	return &index{
		objects: make(map[schema.Key]*object, n), services: map[string][]*object{},
		labelled: make(map[label][]*object, n), workloadIn: map[string][]*object{}, names: map[family][]string{},
		namespaces: map[string]bool{metav1.NamespaceDefault: true, metav1.NamespaceSystem: true}, inhabited: map[string]int{},
		claims: map[claimed][]claim{}, contested: map[claimed]bool{},
	}
}

// value is the object that counts.
func (o *object) value() schema.Object {
	if o.item != nil {
		return o.item.Object
	}
	return o.beside
}

func (o *object) service() *corev1.Service {
	s, _ := o.value().(*corev1.Service)
	return s
}

// compare orders what is declared by set and key, before what the cluster has.
func (o *object) compare(other *object) int {
	if (o.item == nil) != (other.item == nil) {
		if o.item != nil {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(o.set, other.set), o.key.Compare(other.key))
}

// add takes an object in; none of its key may be there.
func (x *index) add(o *object) {
	x.objects[o.key] = o
	if o.item != nil && o.key.Namespace != "" {
		x.inhabited[o.key.Namespace]++
	}
	switch v := o.value().(type) {
	case *corev1.Namespace:
		x.namespaces[v.Name] = true
	case *corev1.ConfigMap, *corev1.Secret, *corev1.PersistentVolumeClaim, *corev1.ServiceAccount:
		f := family{o.key.Resource, o.key.Namespace}
		x.names[f] = append(x.names[f], o.key.Name)
	case *corev1.Service:
		o.isService = true
		x.services[o.key.Namespace] = append(x.services[o.key.Namespace], o)
		eachClaim(o, func(what claimed, c claim) {
			x.claims[what] = append(x.claims[what], c)
			x.contest(what)
		})
	case *corev1.Pod:
		o.labels, o.spec, o.path, o.replicas = v.Labels, &v.Spec, "spec", 1
		x.addWorkload(o)
	case *corev1.ReplicationController:
		if v.Spec.Template == nil {
			return
		}
		o.labels, o.spec, o.path, o.replicas = v.Spec.Template.Labels, &v.Spec.Template.Spec, "spec.template.spec", 1
		if v.Spec.Replicas != nil {
			o.replicas = int(*v.Spec.Replicas)
		}
		x.addWorkload(o)
	}
}

func (x *index) addWorkload(o *object) {
	x.workloadIn[o.key.Namespace] = append(x.workloadIn[o.key.Namespace], o)
	for k, v := range o.labels {
		l := label{o.key.Namespace, k, v}
		x.labelled[l] = append(x.labelled[l], o)
	}
}

// remove is the inverse of add.
func (x *index) remove(o *object) {
	delete(x.objects, o.key)
	if o.item != nil && o.key.Namespace != "" {
		if x.inhabited[o.key.Namespace]--; x.inhabited[o.key.Namespace] == 0 {
			delete(x.inhabited, o.key.Namespace)
		}
	}
	switch v := o.value().(type) {
	case *corev1.Namespace:
		if v.Name != metav1.NamespaceDefault && v.Name != metav1.NamespaceSystem {
			delete(x.namespaces, v.Name)
		}
	case *corev1.ConfigMap, *corev1.Secret, *corev1.PersistentVolumeClaim, *corev1.ServiceAccount:
		without(x.names, family{o.key.Resource, o.key.Namespace}, func(name string) bool { return name == o.key.Name })
	case *corev1.Service:
		without(x.services, o.key.Namespace, o.is)
		eachClaim(o, func(what claimed, _ claim) {
			without(x.claims, what, func(c claim) bool { return c.service == o })
			x.contest(what)
		})
	}
	if o.spec != nil {
		without(x.workloadIn, o.key.Namespace, o.is)
		for k, v := range o.labels {
			without(x.labelled, label{o.key.Namespace, k, v}, o.is)
		}
	}
}

func (o *object) is(other *object) bool { return o == other }

// contest notes whether something is claimed more than once.
func (x *index) contest(what claimed) {
	if len(x.claims[what]) > 1 {
		x.contested[what] = true
	} else {
		delete(x.contested, what)
	}
}

// without takes what matches out of a list, and the list out of the map when
// nothing is left of it.
func without[K comparable, V any](lists map[K][]V, key K, match func(V) bool) {
	if left := slices.DeleteFunc(lists[key], match); len(left) > 0 {
		lists[key] = left
	} else {
		delete(lists, key)
	}
}

// selected calls yield with the workloads that a selector selects until it
// returns false. An empty selector selects nothing.
func (x *index) selected(namespace string, selector map[string]string, yield func(*object) bool) {
	var fewest []*object
	first := true
	for k, v := range selector {
		with := x.labelled[label{namespace, k, v}]
		if first || len(with) < len(fewest) {
			fewest, first = with, false
		}
	}
	for _, w := range fewest {
		if hasAll(w.labels, selector) && !yield(w) {
			return
		}
	}
}

// anySelected returns a workload that a selector selects, or nil.
func (x *index) anySelected(namespace string, selector map[string]string) (one *object) {
	x.selected(namespace, selector, func(w *object) bool {
		one = w
		return false
	})
	return one
}

// hasPort reports whether a container has a port of that name and protocol.
func (o *object) hasPort(name string, protocol corev1.Protocol) bool {
	for i := range o.spec.Containers {
		for _, p := range o.spec.Containers[i].Ports {
			if p.Name == name && p.Protocol == protocol {
				return true
			}
		}
	}
	return false
}

func hasAll(labels, selector map[string]string) bool {
	for k, v := range selector {
		if has, ok := labels[k]; !ok || has != v {
			return false
		}
	}
	return true
}

// valuesOf are the values that a label has in a namespace, and keysOf the
// labels that there are, both sorted.
func (x *index) valuesOf(namespace, key string) []string {
	var out []string
	for _, w := range x.workloadIn[namespace] {
		if v, ok := w.labels[key]; ok {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (x *index) keysOf(namespace string) []string {
	var out []string
	for _, w := range x.workloadIn[namespace] {
		for k := range w.labels {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// namesIn are the names of what pods refer to, sorted.
func (x *index) namesIn(resource, namespace string) []string {
	names := x.names[family{resource, namespace}]
	if !slices.IsSorted(names) {
		slices.Sort(names)
	}
	return names
}
