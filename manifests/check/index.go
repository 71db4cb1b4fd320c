package check

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// index is all objects, arranged for the questions that checks ask.
type index struct {
	items      []*manifests.Item // of all sets, in order
	objects    map[schema.Key]entry
	services   []service
	workloads  []workload
	labelled   map[label][]int32   // workloads
	workloadIn map[string][]int32  // by namespace
	names      map[family][]string // of config maps and secrets
	namespaces []string
}

// entry is an object by its key; item is nil for one of the cluster.
type entry struct {
	item   *manifests.Item
	object schema.Object
}

// workload is a pod, or what makes pods.
type workload struct {
	item      *manifests.Item // nil for one of the cluster
	namespace string
	labels    map[string]string
	spec      *corev1.PodSpec
	path      string // of spec in the object
	replicas  int
}

type service struct {
	item   *manifests.Item // nil for one of the cluster
	object *corev1.Service
}

type label struct{ namespace, key, value string }

// family is the objects of a kind in a namespace.
type family struct{ resource, namespace string }

func newIndex(sets []*manifests.Set, in Cluster) *index {
	n := 0
	for _, s := range sets {
		n += len(s.Items)
	}
	x := &index{
		items: make([]*manifests.Item, 0, n), objects: make(map[schema.Key]entry, n),
		labelled: make(map[label][]int32, n), workloadIn: map[string][]int32{}, names: map[family][]string{},
		namespaces: []string{metav1.NamespaceDefault, metav1.NamespaceSystem},
	}
	for _, s := range sets {
		for i := range s.Items {
			item := &s.Items[i]
			x.items = append(x.items, item)
			x.add(item.Key, entry{item, item.Object})
		}
	}
	for _, o := range in.Objects {
		key := schema.KeyOf(o)
		if _, declared := x.objects[key]; !declared && metav1.GetControllerOfNoCopy(o) == nil {
			x.add(key, entry{nil, o})
		}
	}
	return x
}

func (x *index) add(key schema.Key, e entry) {
	switch o := e.object.(type) {
	case *corev1.Namespace:
		x.namespaces = append(x.namespaces, o.Name)
	case *corev1.ConfigMap, *corev1.Secret:
		f := family{key.Resource, key.Namespace}
		x.names[f] = append(x.names[f], key.Name)
	case *corev1.Service:
		x.services = append(x.services, service{e.item, o})
	case *corev1.Pod:
		x.addWorkload(workload{item: e.item, namespace: o.Namespace, labels: o.Labels, spec: &o.Spec, path: "spec", replicas: 1})
	case *corev1.ReplicationController:
		w := workload{item: e.item, namespace: o.Namespace, path: "spec.template.spec", replicas: 1}
		if o.Spec.Replicas != nil {
			w.replicas = int(*o.Spec.Replicas)
		}
		if o.Spec.Template != nil {
			w.labels, w.spec = o.Spec.Template.Labels, &o.Spec.Template.Spec
			x.addWorkload(w)
		}
	}
	x.objects[key] = e
}

func (x *index) addWorkload(w workload) {
	at := int32(len(x.workloads))
	x.workloads = append(x.workloads, w)
	x.workloadIn[w.namespace] = append(x.workloadIn[w.namespace], at)
	for k, v := range w.labels {
		l := label{w.namespace, k, v}
		x.labelled[l] = append(x.labelled[l], at)
	}
}

// selected calls yield with the workloads that a selector selects, in order,
// until it returns false. An empty selector selects nothing.
func (x *index) selected(namespace string, selector map[string]string, yield func(*workload) bool) {
	var fewest []int32
	first := true
	for k, v := range selector {
		with := x.labelled[label{namespace, k, v}]
		if first || len(with) < len(fewest) {
			fewest, first = with, false
		}
	}
	for _, at := range fewest {
		if w := &x.workloads[at]; hasAll(w.labels, selector) && !yield(w) {
			return
		}
	}
}

// firstSelected returns a workload that a selector selects, or nil.
func (x *index) firstSelected(namespace string, selector map[string]string) (first *workload) {
	x.selected(namespace, selector, func(w *workload) bool {
		first = w
		return false
	})
	return first
}

// hasPort reports whether a container has a port of that name and protocol.
func (w *workload) hasPort(name string, protocol corev1.Protocol) bool {
	for i := range w.spec.Containers {
		for _, p := range w.spec.Containers[i].Ports {
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
	for _, at := range x.workloadIn[namespace] {
		if v, ok := x.workloads[at].labels[key]; ok {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (x *index) keysOf(namespace string) []string {
	var out []string
	for _, at := range x.workloadIn[namespace] {
		for k := range x.workloads[at].labels {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
