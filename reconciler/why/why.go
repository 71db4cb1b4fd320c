// Package why traces an object back to what made it: its controllers, the file
// and line that declare them, and the commit; and says of a pod why it is where
// it is and what keeps it from being ready.
//
// `reconcile why` shows it. It reads a mirror and writes nothing.
package why

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/scheduler"
	"github.com/evenkeel/evenkeel/reconciler/status"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Answer is why an object is there.
type Answer struct {
	Object string   `json:"object"`           // "Pod shop/web-x7k2p"
	Owners []string `json:"owners,omitempty"` // who made it, and who made that, the nearest first
	Origin *Origin  `json:"origin,omitempty"` // nil if no source declares the last of them
	Pod    *Pod     `json:"pod,omitempty"`
}

// Origin is where an object is declared.
type Origin struct {
	Source   string    `json:"source"`
	Location string    `json:"location,omitempty"`
	Place    string    `json:"place"` // "apps/web.yaml:7"
	Commit   string    `json:"commit,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Author   string    `json:"author,omitempty"`
	Time     time.Time `json:"time,omitzero"`
}

// Pod is what there is to say of a pod beside that.
type Pod struct {
	Node       string                `json:"node,omitempty"`
	NotReady   string                `json:"notReady,omitempty"`
	Resize     string                `json:"resize,omitempty"` // of its resources in place: why it is not through
	Candidates []scheduler.Candidate `json:"candidates"`       // as things are now, without the pod itself
}

// Explain answers for an object in a synced mirror of all under schema.Root.
func Explain(m *registry.Mirror, key schema.Key) (Answer, error) {
	obj := m.Get(key)
	if obj == nil {
		return Answer{}, fmt.Errorf("%s: there is no such object", key)
	}
	inventory, heads, err := reconciler.Books(m.Raw(schema.SourcesPrefix))
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Object: name(key)}
	if pod, ok := obj.(*corev1.Pod); ok {
		a.Pod = explainPod(m, pod)
	}
	top := key
	for seen := map[schema.Key]bool{key: true}; ; seen[top] = true {
		if owned, ok := inventory[top]; ok && owned.Entry.UID == obj.GetUID() {
			a.Origin = originOf(owned, heads[owned.Source])
			return a, nil
		}
		owner, ok := ownerOf(obj)
		if !ok || seen[owner] {
			return a, nil
		}
		above := m.Get(owner)
		if above == nil || above.GetUID() != metav1.GetControllerOfNoCopy(obj).UID {
			a.Owners = append(a.Owners, name(owner)+" (gone)")
			return a, nil
		}
		a.Owners = append(a.Owners, name(owner))
		top, obj = owner, above
	}
}

// ownerOf is the object that controls another.
func ownerOf(obj schema.Object) (schema.Key, bool) {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil {
		return schema.Key{}, false
	}
	kind, ok := schema.KindNamed(ref.Kind)
	if !ok {
		return schema.Key{}, false
	}
	return kind.Key(obj.GetNamespace(), ref.Name), true
}

func originOf(owned reconciler.Owned, head reconciler.Head) *Origin {
	o := &Origin{Source: owned.Source, Location: head.Location, Place: fmt.Sprintf("%s:%d", owned.Entry.File, owned.Entry.Line)}
	if from := owned.Entry.Origin; from != nil {
		o.Commit, o.Subject, o.Author, o.Time = from.Revision, from.Subject, from.Author, from.Time
	}
	return o
}

func explainPod(m *registry.Mirror, pod *corev1.Pod) *Pod {
	out := &Pod{Node: pod.Spec.NodeName}
	if !isReady(pod) && pod.Status.Phase != corev1.PodSucceeded {
		out.NotReady = status.WhyNotReady(pod)
	}
	out.Resize = resizeOf(pod)
	state := scheduler.NewState()
	for _, namespace := range registry.ListOf[*corev1.Namespace](m, schema.Namespaces, "") {
		state.SetNamespace(namespace.Name, namespace)
	}
	for _, node := range registry.ListOf[*corev1.Node](m, schema.Nodes, "") {
		state.SetNode(node.Name, node)
	}
	for _, other := range registry.ListOf[*corev1.Pod](m, schema.Pods, "") {
		if other.UID != pod.UID {
			state.SetPod(schema.KeyOf(other), other)
		}
	}
	out.Candidates = state.Candidates(pod)
	return out
}

// resizeOf is what keeps the resources that a pod asks for from being its own,
// as its agent says it; "" if nothing does.
func resizeOf(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case corev1.PodResizePending:
			return fmt.Sprintf("is pending (%s): %s", c.Reason, c.Message)
		case corev1.PodResizeInProgress:
			return strings.TrimSuffix("is in progress: "+c.Message, ": ")
		}
	}
	return ""
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// name is an object as people say it: "ReplicationController shop/web".
func name(key schema.Key) string {
	full := strings.TrimPrefix(key.Namespace+"/"+key.Name, "/")
	if kind, ok := schema.KindOfResource(key.Resource); ok {
		return kind.GVK.Kind + " " + full
	}
	return full
}

// Find returns the key of the object that a person means by "pod/web-x7k2p" or
// "pod/shop/web-x7k2p". Without a namespace it is looked for in all of them.
func Find(m *registry.Mirror, word, namespace string) (schema.Key, error) {
	parts := strings.Split(word, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return schema.Key{}, fmt.Errorf("%q: name an object as pod/web-x7k2p or pod/shop/web-x7k2p", word)
	}
	kind, ok := schema.KindNamed(parts[0])
	if !ok {
		return schema.Key{}, fmt.Errorf("%q: there is no kind %q", word, parts[0])
	}
	if len(parts) == 3 {
		namespace = parts[1]
	}
	var found []schema.Key
	for _, obj := range m.List(kind, namespace) {
		if obj.GetName() == parts[len(parts)-1] {
			found = append(found, schema.KeyOf(obj))
		}
	}
	switch len(found) {
	case 0:
		return schema.Key{}, fmt.Errorf("%s: there is no such object", word)
	case 1:
		return found[0], nil
	}
	var names []string
	for _, key := range found {
		names = append(names, kind.Singular+"/"+key.Namespace+"/"+key.Name)
	}
	return schema.Key{}, fmt.Errorf("%s: which of %s?", word, strings.Join(names, ", "))
}
