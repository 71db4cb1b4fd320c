package nodeagent

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/schema"
)

// bindings is what the store says that this node should have, decoded. Objects
// in it are shared and never changed.
type bindings struct {
	mu      sync.Mutex
	pods    map[string]*corev1.Pod // by UID
	config  map[string]*corev1.ConfigMap
	secrets map[string]*corev1.Secret
	node    *corev1.Node
	peers   []network.Peer
}

func newBindings() *bindings {
	return &bindings{pods: map[string]*corev1.Pod{}, config: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}}
}

// ConfigMap implements volume.Refs.
func (b *bindings) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cm, ok := b.config[namespace+"/"+name]
	return cm, ok
}

// Secret implements volume.Refs.
func (b *bindings) Secret(namespace, name string) (*corev1.Secret, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.secrets[namespace+"/"+name]
	return s, ok
}

func (b *bindings) pod(uid string) *corev1.Pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pods[uid]
}

func (b *bindings) nodeObject() *corev1.Node {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.node
}

// changed is what a new reading of the bindings differs in.
type changed struct {
	pods  []string // UIDs that came, went or are new versions
	refs  bool     // config maps or secrets
	node  bool
	peers bool
}

// load takes a whole reading, which must have the mark of the node in it, and
// says what is new. Values that cannot be read are an error, and nothing is
// taken: half a reading would end pods.
func (b *bindings) load(prefix string, values map[string][]byte) (changed, error) {
	next := newBindings()
	for key, value := range values {
		if err := next.add(strings.TrimPrefix(key, prefix), value); err != nil {
			return changed{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := changed{
		node:  !sameVersion(b.node, next.node),
		peers: !equalPeers(b.peers, next.peers),
		refs:  !sameObjects(b.config, next.config) || !sameObjects(b.secrets, next.secrets),
	}
	for uid, pod := range next.pods {
		if old := b.pods[uid]; old == nil || old.ResourceVersion != pod.ResourceVersion {
			c.pods = append(c.pods, uid)
		}
	}
	for uid := range b.pods {
		if next.pods[uid] == nil {
			c.pods = append(c.pods, uid)
		}
	}
	b.pods, b.config, b.secrets, b.node, b.peers = next.pods, next.config, next.secrets, next.node, next.peers
	return c, nil
}

func (b *bindings) add(name string, value []byte) error {
	decoded, err := schema.Decode(value)
	if err != nil {
		return err
	}
	if obj, ok := decoded.(schema.Object); ok {
		// The version of the binding is what its bytes are: the store's
		// revision is not in them.
		obj.SetResourceVersion(fingerprint(value))
	}
	switch o := decoded.(type) {
	case *corev1.Pod:
		b.pods[string(o.UID)] = o
	case *corev1.ConfigMap:
		b.config[o.Namespace+"/"+o.Name] = o
	case *corev1.Secret:
		b.secrets[o.Namespace+"/"+o.Name] = o
	case *corev1.Node:
		b.node = o
	case *corev1.NodeList:
		if name == schema.BindingPeersName {
			b.peers = peersOf(o)
		}
	}
	return nil
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

func equalPeers(a, b []network.Peer) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func sameVersion(a, b *corev1.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ResourceVersion == b.ResourceVersion
}

func sameObjects[T schema.Object](a, b map[string]T) bool {
	if len(a) != len(b) {
		return false
	}
	for key, obj := range a {
		other, ok := b[key]
		if !ok || other.GetResourceVersion() != obj.GetResourceVersion() {
			return false
		}
	}
	return true
}

func (a *agent) takeNode(node *corev1.Node) error {
	if node.Spec.PodCIDR == "" {
		return nil
	}
	cidr, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		return fmt.Errorf("pod CIDR of node %s: %w", node.Name, err)
	}
	return a.cfg.Network.SetPodCIDR(cidr)
}

func (a *agent) takePeers(ctx context.Context) {
	a.bindings.mu.Lock()
	peers := a.bindings.peers
	a.bindings.mu.Unlock()
	if err := a.cfg.Network.SetPeers(ctx, peers); err != nil {
		a.cfg.Logger.Error("routes to other nodes", "error", err)
	}
}
