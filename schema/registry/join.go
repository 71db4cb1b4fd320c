package registry

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// A pod as people see it lies in two keys and a node in three, each with one
// writer. Their keys begin with the same letters, so that one list or watch
// has all the parts at one revision. This file puts them together.

// watchPrefix is the prefix under which all parts of a kind's objects lie.
func watchPrefix(kind *schema.Kind, namespace string) string {
	switch kind {
	case schema.Pods:
		return schema.Root + "pod"
	case schema.Nodes:
		return schema.Root + "node"
	}
	return kind.Prefix(namespace)
}

// statusPaths are the keys of an object's status and presence, or "".
func statusPaths(obj schema.Object) (status, lease string) {
	switch o := obj.(type) {
	case *corev1.Pod:
		if o.Spec.NodeName != "" {
			return schema.PodStatusPath(o.Spec.NodeName, o.Namespace, o.Name), ""
		}
	case *corev1.Node:
		return schema.NodeStatusPrefix + o.Name, schema.NodeLeasePrefix + o.Name
	}
	return "", ""
}

// join returns the object with its status: a shallow copy, where there is one.
func join(obj, status schema.Object, present bool) schema.Object {
	switch o := obj.(type) {
	case *corev1.Pod:
		s, _ := status.(*corev1.Pod)
		return joinPod(o, s)
	case *corev1.Node:
		s, _ := status.(*corev1.Node)
		return joinNode(o, s, present)
	}
	return obj
}

// joinPod takes the agent's status, and its word that the pod has stopped, if
// they are of this very pod, and keeps the conditions of others.
func joinPod(pod, status *corev1.Pod) *corev1.Pod {
	if status == nil || status.UID != pod.UID {
		return pod
	}
	joined := *pod
	joined.ResourceVersion = later(pod.ResourceVersion, status.ResourceVersion)
	joined.Status = status.Status
	if stopped := status.Annotations[schema.StoppedAnnotation]; stopped == string(pod.UID) {
		joined.Annotations = maps.Clone(pod.Annotations)
		if joined.Annotations == nil {
			joined.Annotations = map[string]string{}
		}
		joined.Annotations[schema.StoppedAnnotation] = stopped
	}
	joined.Status.Conditions = withOthers(status.Status.Conditions, pod.Status.Conditions)
	return &joined
}

// joinNode takes the agent's status, and the conditions of others. A node whose lease is gone is not known
// to be ready, whatever it last said of itself.
func joinNode(node, status *corev1.Node, present bool) *corev1.Node {
	joined := *node
	if status != nil {
		joined.ResourceVersion = later(node.ResourceVersion, status.ResourceVersion)
		joined.Status = status.Status
		joined.Status.Conditions = append(slices.Clip(status.Status.Conditions), node.Status.Conditions...)
	}
	if !present {
		joined.Status.Conditions = withReadyUnknown(joined.Status.Conditions)
	}
	return &joined
}

func withReadyUnknown(conditions []corev1.NodeCondition) []corev1.NodeCondition {
	unknown := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown,
		Reason: "NodeStatusUnknown", Message: "node agent stopped posting its lease",
	}
	out := []corev1.NodeCondition{}
	for _, c := range conditions {
		if c.Type == corev1.NodeReady {
			unknown.LastHeartbeatTime, unknown.LastTransitionTime = c.LastHeartbeatTime, c.LastTransitionTime
			continue
		}
		out = append(out, c)
	}
	return append(out, unknown)
}

func later(a, b string) string {
	if revisionOf(b) > revisionOf(a) {
		return b
	}
	return a
}

func revisionOf(rv string) int64 {
	n, _ := strconv.ParseInt(rv, 10, 64)
	return n
}

// joiner holds the parts of objects and the objects made of them. It is what
// a list, a watch and the Mirror have in common. Objects in it are shared and
// never changed. It is not safe for concurrent use.
type joiner struct {
	own      map[schema.Key]schema.Object // as the object's own key has it
	podState map[schema.Key][]PodStatus   // by pod; more than one only while it changes nodes
	nodeStat map[string]*corev1.Node      // by node name
	present  map[string]bool              // nodes with a lease
	objects  map[string]map[schema.Key]schema.Object
}

func newJoiner(kvs []KV) (*joiner, error) {
	j := &joiner{
		own: map[schema.Key]schema.Object{}, podState: map[schema.Key][]PodStatus{}, nodeStat: map[string]*corev1.Node{},
		present: map[string]bool{}, objects: map[string]map[schema.Key]schema.Object{},
	}
	for _, kv := range kvs {
		if _, err := j.apply(Change{KV: kv}); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// apply takes in one change and returns the key of the object that it changed,
// the zero Key if it is no part of an object.
func (j *joiner) apply(c Change) (schema.Key, error) {
	key, ok := objectKey(c.Key)
	if !ok {
		return schema.Key{}, nil
	}
	var obj schema.Object
	if !c.Deleted && !strings.HasPrefix(c.Key, schema.NodeLeasePrefix) {
		var err error
		if obj, err = decode(c.KV); err != nil {
			return schema.Key{}, err
		}
	}
	switch {
	case strings.HasPrefix(c.Key, schema.PodStatusPrefix):
		status, _ := obj.(*corev1.Pod)
		j.setPodStatus(key, nodeOfStatus(c.Key), status)
	case strings.HasPrefix(c.Key, schema.NodeStatusPrefix):
		status, _ := obj.(*corev1.Node)
		setOrDelete(j.nodeStat, key.Name, status, status != nil)
	case strings.HasPrefix(c.Key, schema.NodeLeasePrefix):
		setOrDelete(j.present, key.Name, true, !c.Deleted)
	default:
		setOrDelete(j.own, key, obj, !c.Deleted)
	}
	j.rejoin(key)
	return key, nil
}

// objectKey returns the object that a key in the store is a part of.
func objectKey(path string) (schema.Key, bool) {
	if rest, ok := strings.CutPrefix(path, schema.PodStatusPrefix); ok {
		parts := strings.Split(rest, "/")
		if len(parts) != 3 {
			return schema.Key{}, false
		}
		return schema.Pods.Key(parts[1], parts[2]), true
	}
	for _, prefix := range []string{schema.NodeStatusPrefix, schema.NodeLeasePrefix} {
		if name, ok := strings.CutPrefix(path, prefix); ok {
			return schema.Nodes.Key("", name), true
		}
	}
	key, err := schema.ParsePath(path)
	return key, err == nil
}

// rejoin makes the object of a key anew from its parts.
func (j *joiner) rejoin(key schema.Key) {
	all := j.objects[key.Resource]
	if all == nil {
		all = map[schema.Key]schema.Object{}
		j.objects[key.Resource] = all
	}
	obj := j.own[key]
	switch o := obj.(type) {
	case *corev1.Pod:
		obj = joinPod(o, j.podStatusOn(key, o.Spec.NodeName))
	case *corev1.Node:
		obj = joinNode(o, j.nodeStat[o.Name], j.present[o.Name])
	}
	setOrDelete(all, key, obj, obj != nil)
}

// PodStatus is what one node's agent says of a pod, under whichever UID.
type PodStatus struct {
	Node   string
	Object *corev1.Pod // metadata and status only; its resourceVersion is that of the status key
}

func nodeOfStatus(path string) string {
	node, _, _ := strings.Cut(strings.TrimPrefix(path, schema.PodStatusPrefix), "/")
	return node
}

func (j *joiner) setPodStatus(key schema.Key, node string, status *corev1.Pod) {
	kept := slices.DeleteFunc(slices.Clone(j.podState[key]), func(s PodStatus) bool { return s.Node == node })
	if status != nil {
		kept = append(kept, PodStatus{Node: node, Object: status})
	}
	setOrDelete(j.podState, key, kept, len(kept) > 0)
}

func (j *joiner) podStatusOn(key schema.Key, node string) *corev1.Pod {
	for _, s := range j.podState[key] {
		if s.Node == node && node != "" {
			return s.Object
		}
	}
	return nil
}

func (j *joiner) list(kind *schema.Kind, namespace string) []schema.Object {
	var out []schema.Object
	for key, obj := range j.objects[kind.Resource] {
		if namespace == "" || key.Namespace == namespace {
			out = append(out, obj)
		}
	}
	slices.SortFunc(out, func(a, b schema.Object) int {
		return compareMeta(a, b)
	})
	return out
}

func compareMeta(a, b metav1.Object) int {
	if c := strings.Compare(a.GetNamespace(), b.GetNamespace()); c != 0 {
		return c
	}
	return strings.Compare(a.GetName(), b.GetName())
}

func setOrDelete[K comparable, V any](m map[K]V, key K, value V, set bool) {
	if set {
		m[key] = value
	} else {
		delete(m, key)
	}
}
