package nodeagent

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/schema"
)

// bindings is what the store says that this node should have, decoded. Objects
// in it are shared and never changed; an object whose bytes did not change is
// the same one after each reading.
type bindings struct {
	mu     sync.Mutex
	values map[string]decoded           // by key below the node's prefix; nil before the first reading
	pods   map[string]*corev1.Pod       // by UID
	refs   map[schema.Key]schema.Object // config maps, secrets, claims and volumes
	tokens map[string]*corev1.Secret    // of pods, by UID
	single map[string]runtime.Object    // BindingNodeName and BindingPeersName
	newest int64                        // revision of the last of the keys

	mirrors map[string]*corev1.Pod // of static pods, by the UID of what they mirror
	static  map[string]*corev1.Pod // by UID; not from the store
}

type decoded struct {
	value  []byte
	object runtime.Object
}

// pod returns a pod that is bound here, or one of the node's own, or nil.
func (b *bindings) pod(uid string) *corev1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	if pod := b.static[uid]; pod != nil {
		return pod
	}
	return b.pods[uid]
}

// node returns the node as the control plane has it, or nil.
func (b *bindings) node() *corev1.Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	node, _ := b.single[schema.BindingNodeName].(*corev1.Node)
	return node
}

// peers returns the other nodes; known is false as long as nobody said which
// they are.
func (b *bindings) peers() (peers []network.Peer, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list, known := b.single[schema.BindingPeersName].(*corev1.NodeList)
	if !known {
		return nil, false
	}
	return peersOf(list), true
}

// changed is what a new reading of the bindings differs in.
type changed struct {
	pods    []string            // UIDs that came, went or are new versions
	mirrors []string            // UIDs of static pods whose mirrors did
	refs    map[schema.Key]bool // config maps, secrets, claims and volumes, likewise
	tokens  []string            // UIDs of pods that got others
	node    bool
	peers   bool
}

// load takes a whole reading, which must have the mark of the node in it, and
// says what is new; in the first, everything is. A value that cannot be read
// is an error, and nothing is taken: half a reading would end pods.
func (b *bindings) load(prefix string, values map[string][]byte) (changed, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := bindings{
		values: make(map[string]decoded, len(values)), pods: map[string]*corev1.Pod{},
		refs: map[schema.Key]schema.Object{}, tokens: map[string]*corev1.Secret{}, single: map[string]runtime.Object{}, mirrors: map[string]*corev1.Pod{},
	}
	for key, value := range values {
		d := b.values[key]
		if d.object == nil || !bytes.Equal(d.value, value) {
			object, err := schema.Decode(value)
			if err != nil {
				return changed{}, fmt.Errorf("%s: %w", key, err)
			}
			d = decoded{value: value, object: object}
		}
		next.values[key] = d
		next.add(strings.TrimPrefix(key, prefix), d.object)
	}
	first := b.values == nil
	c := changed{
		node:  first || b.single[schema.BindingNodeName] != next.single[schema.BindingNodeName],
		peers: first || b.single[schema.BindingPeersName] != next.single[schema.BindingPeersName],
		refs:  map[schema.Key]bool{},
	}
	for uid := range differing(b.pods, next.pods) {
		c.pods = append(c.pods, uid)
	}
	for uid := range differing(b.mirrors, next.mirrors) {
		c.mirrors = append(c.mirrors, uid)
	}
	for uid := range differing(b.tokens, next.tokens) {
		c.tokens = append(c.tokens, uid)
	}
	maps.Insert(c.refs, differing(b.refs, next.refs))
	b.values, b.pods, b.refs, b.tokens, b.single, b.mirrors = next.values, next.pods, next.refs, next.tokens, next.single, next.mirrors
	return c, nil
}

func (b *bindings) add(name string, object runtime.Object) {
	switch o := object.(type) {
	case *corev1.Pod:
		if of := o.Annotations[schema.MirrorAnnotation]; of != "" {
			b.mirrors[of] = o
			return
		}
		b.pods[string(o.UID)] = o
	case *corev1.Secret:
		if of, isToken := strings.CutPrefix(name, schema.BindingTokensName+"/"); isToken {
			b.tokens[of[strings.LastIndexByte(of, '.')+1:]] = o
			return
		}
		b.refs[schema.KeyOf(o)] = o
	case *corev1.ConfigMap, *corev1.PersistentVolumeClaim, *corev1.PersistentVolume:
		obj := o.(schema.Object)
		b.refs[schema.KeyOf(obj)] = obj
	case *corev1.Node, *corev1.NodeList:
		b.single[name] = o
	}
}

// differing yields the keys whose values are not the same in two maps.
func differing[K, V comparable](a, b map[K]V) func(func(K, bool) bool) {
	return func(yield func(K, bool) bool) {
		for key, value := range b {
			if old, ok := a[key]; (!ok || old != value) && !yield(key, true) {
				return
			}
		}
		for key := range a {
			if _, ok := b[key]; !ok && !yield(key, true) {
				return
			}
		}
	}
}

func peersOf(list *corev1.NodeList) []network.Peer {
	var peers []network.Peer
	for _, n := range list.Items {
		p := network.Peer{Node: n.Name}
		p.PodCIDR, _ = netip.ParsePrefix(n.Spec.PodCIDR)
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && !p.IP.IsValid() {
				p.IP, _ = netip.ParseAddr(a.Address)
			}
		}
		peers = append(peers, p)
	}
	return peers
}
