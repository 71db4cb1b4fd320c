package registry

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

// index is the keys of objects by something that their objects say. The empty
// value is not indexed.
type index map[string]map[schema.Key]bool

func (x index) move(key schema.Key, was, is string) {
	if was == is {
		return
	}
	if was != "" {
		delete(x[was], key)
		if len(x[was]) == 0 {
			delete(x, was)
		}
	}
	if is != "" {
		if x[is] == nil {
			x[is] = map[schema.Key]bool{}
		}
		x[is][key] = true
	}
}

func (x index) sorted(value string) []schema.Key {
	return slices.SortedFunc(maps.Keys(x[value]), schema.Key.Compare)
}

func nodeOf(obj schema.Object) string {
	if pod, ok := obj.(*corev1.Pod); ok {
		return pod.Spec.NodeName
	}
	return ""
}

// ownerOf is the UID of a pod's controller; for pods without one their
// namespace, behind a slash that no UID has.
func ownerOf(obj schema.Object) string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return ""
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return string(ref.UID)
	}
	return "/" + pod.Namespace
}

// serviceOf is the service that an endpoint slice is of, as "namespace/name".
func serviceOf(obj schema.Object) string {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return ""
	}
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

// SlicesOf returns the keys of the endpoint slices that carry a service's name.
func (m *Mirror) SlicesOf(namespace, service string) []schema.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byService.sorted(namespace + "/" + service)
}

// PodsOn returns the keys of the pods that are bound to a node.
func (m *Mirror) PodsOn(node string) []schema.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byNode.sorted(node)
}

// PodsOf returns the keys of the pods whose controller has the UID.
func (m *Mirror) PodsOf(controller types.UID) []schema.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byOwner.sorted(string(controller))
}

// PodsWithoutController returns the keys of a namespace's pods that no
// controller owns.
func (m *Mirror) PodsWithoutController(namespace string) []schema.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byOwner.sorted("/" + namespace)
}

// Stored returns an object as its own key has it, without what its agent says
// of it, or nil. Its resourceVersion is the revision of that key.
func (m *Mirror) Stored(key schema.Key) schema.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.own[key]
}

// PodStatuses returns what agents say of a pod of that name, whether or not
// there is such a pod.
func (m *Mirror) PodStatuses(key schema.Key) []PodStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.podState[key])
}

// NodeStatuses returns what agents say of their nodes, sorted by name, whether
// or not there is such a node: an agent speaks first, and is given its node
// then.
func (m *Mirror) NodeStatuses() []*corev1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.state.nodeStat), func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
}

// NodeStatus returns what the agent of a node says, or nil.
func (m *Mirror) NodeStatus(name string) *corev1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.nodeStat[name]
}

// NodePresent reports whether a node's agent holds its lease.
func (m *Mirror) NodePresent(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.present[name]
}

// rawKeys are keys that are no objects: by directory, so that one node's
// bindings are found without looking at all of them.
type rawKeys map[string]map[string]KV

// rawDirectory is "/registry/bindings/<node>/" for what lies below it, and ""
// for everything else.
func rawDirectory(path string) string {
	rest, ok := strings.CutPrefix(path, schema.BindingsPrefix)
	if !ok {
		return ""
	}
	node, _, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return schema.BindingPrefix(node)
}

func (r rawKeys) set(c Change) {
	dir := rawDirectory(c.Key)
	if !c.Deleted {
		if r[dir] == nil {
			r[dir] = map[string]KV{}
		}
		r[dir][c.Key] = c.KV
		return
	}
	delete(r[dir], c.Key)
	if len(r[dir]) == 0 {
		delete(r, dir)
	}
}

func (r rawKeys) withPrefix(prefix string) []KV {
	var out []KV
	collect := func(in map[string]KV) {
		for key, kv := range in {
			if strings.HasPrefix(key, prefix) {
				out = append(out, kv)
			}
		}
	}
	switch dir := rawDirectory(prefix); {
	case dir != "":
		collect(r[dir])
	case !strings.HasPrefix(schema.BindingsPrefix, prefix) && !strings.HasPrefix(prefix, schema.BindingsPrefix):
		collect(r[""])
	default:
		for _, in := range r {
			collect(in)
		}
	}
	slices.SortFunc(out, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// RawKey returns one key that is no object, or false.
func (m *Mirror) RawKey(key string) (KV, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kv, ok := m.raw[rawDirectory(key)][key]
	return kv, ok
}

// Raw returns the keys with a prefix that are no objects, sorted.
func (m *Mirror) Raw(prefix string) []KV {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.raw.withPrefix(prefix)
}
