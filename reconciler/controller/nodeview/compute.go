package nodeview

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// View is what a node's bindings are made of. Objects are as their own keys
// have them.
type View struct {
	Name    string
	Node    *corev1.Node    // nil if there is none: nothing is to be there
	Peers   []*corev1.Node  // all nodes, joined with their status
	Known   bool            // the list of peers that is there is known to be right: Peers is not looked at
	Objects []schema.Object // the pods bound to it, and what they refer to
	Trust   string          // PEM of what clients of the node's server are checked against; "" for no key
}

// Compute returns the writes that make what is there into what should be
// there. The node's own key is written last and removed first: where it is
// missing, an agent takes a list of its bindings for no authority.
func Compute(view View, there []registry.KV) ([]registry.Write, error) {
	want, err := wanted(view)
	if err != nil {
		return nil, err
	}
	nodePath := schema.BindingPrefix(view.Name) + schema.BindingNodeName
	node := schema.Nodes.Key("", view.Name)
	var deletes, puts []registry.Write
	tokens := schema.BindingPrefix(view.Name) + schema.BindingTokensName + "/"
	for _, kv := range there {
		w, ok := want[kv.Key]
		switch {
		case strings.HasPrefix(kv.Key, tokens): // another controller's
		case view.Known && kv.Key == schema.BindingPrefix(view.Name)+schema.BindingPeersName:
		case ok && bytes.Equal(w.Raw.Value, kv.Value):
			delete(want, kv.Key)
		case !ok:
			op := registry.Delete(kv.Key)
			guard := &registry.Guard{Key: kv.Key, Mod: kv.Mod}
			if view.Node == nil {
				guard = &registry.Guard{Key: node.Path(), Mod: registry.Absent}
			}
			deletes = append(deletes, registry.Write{Raw: &op, Guard: guard})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if path != nodePath {
			puts = append(puts, want[path])
		}
	}
	if w, ok := want[nodePath]; ok {
		puts = append(puts, w)
	}
	slices.SortStableFunc(deletes, func(a, b registry.Write) int {
		switch nodePath {
		case a.Raw.Key:
			return -1
		case b.Raw.Key:
			return 1
		}
		return strings.Compare(a.Raw.Key, b.Raw.Key)
	})
	return append(deletes, puts...), nil
}

// wanted is every key that should be there, with the write that makes it so,
// guarded by its object being as it was read.
func wanted(view View) (map[string]registry.Write, error) {
	want := map[string]registry.Write{}
	if view.Node == nil {
		return want, nil
	}
	prefix := schema.BindingPrefix(view.Name)
	put := func(path string, obj runtime.Object, guard *registry.Guard) error {
		data, err := schema.Encode(obj)
		if err != nil {
			return err
		}
		op := registry.Put(path, data)
		want[path] = registry.Write{Raw: &op, Guard: guard}
		return nil
	}
	exists := &registry.Guard{Key: schema.KeyOf(view.Node).Path(), Mod: registry.Present}
	if !view.Known {
		if err := put(prefix+schema.BindingPeersName, peersOf(view), exists); err != nil {
			return nil, err
		}
	}
	if view.Trust != "" {
		trust := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: schema.BindingTrustName}, Data: map[string]string{corev1.ServiceAccountRootCAKey: view.Trust}}
		if err := put(prefix+schema.BindingTrustName, trust, exists); err != nil {
			return nil, err
		}
	}
	if err := put(prefix+schema.BindingNodeName, stored(view.Node), controller.Unchanged(view.Node)); err != nil {
		return nil, err
	}
	for _, obj := range view.Objects {
		if err := put(schema.BindingPath(view.Name, schema.KeyOf(obj)), stored(obj), controller.Unchanged(obj)); err != nil {
			return nil, err
		}
	}
	return want, nil
}

// stored is an object as it is encoded in the store: without its revision.
func stored(obj schema.Object) runtime.Object {
	var out schema.Object
	switch o := obj.(type) {
	case *corev1.Pod:
		c := *o
		out = &c
	case *corev1.Node:
		c := *o
		out = &c
	case *corev1.ConfigMap:
		c := *o
		out = &c
	case *corev1.Secret:
		c := *o
		out = &c
	default:
		out = obj.DeepCopyObject().(schema.Object)
	}
	out.SetResourceVersion("")
	return out
}

// peersOf lists the other nodes, sorted by name.
func peersOf(view View) *corev1.NodeList {
	list := &corev1.NodeList{}
	for _, n := range view.Peers {
		if n.Name != view.Name {
			list.Items = append(list.Items, peer(n))
		}
	}
	slices.SortFunc(list.Items, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// peer is all that other nodes need to know of a node.
func peer(n *corev1.Node) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name},
		Spec:       corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: n.Status.Addresses},
	}
}
