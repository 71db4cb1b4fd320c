package nodeview

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Trust, Metrics and
// Workers are required.
type Config struct {
	Writer  controller.Writer
	Trust   string // PEM of what the clients of agents' servers are checked against
	Metrics *controller.Metrics
	Logger  *slog.Logger
	Workers int // default 4
}

// viewer keeps the views of all nodes.
type viewer struct {
	Config
	nodeOf map[schema.Key]string  // by pod: the node that it was last seen on
	peers  map[string]corev1.Node // as other nodes see them

	mu      sync.Mutex
	refs    map[string]map[schema.Key]bool // by node: what its pods refer to
	changes int                            // how often peers changed
	right   map[string]rightPeers          // by node
}

// rightPeers is a list of peers as it was found to be right.
type rightPeers struct {
	changes int
	mod     int64 // revision of its key
}

// Run keeps the bindings of all nodes until ctx ends (nil) or the leader's
// term does (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	v := &viewer{
		Config: cfg, nodeOf: map[schema.Key]string{}, peers: map[string]corev1.Node{},
		refs: map[string]map[schema.Key]bool{}, right: map[string]rightPeers{},
	}
	loop := controller.Loop{
		Name: "nodeview", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Nodes, schema.Pods, schema.ConfigMaps, schema.Secrets, schema.PersistentVolumeClaims, schema.PersistentVolumes}, Raw: schema.BindingsPrefix,
		Map: v.dirty, Reconcile: v.reconcile, Workers: cfg.Workers, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the nodes whose view a change may alter.
func (v *viewer) dirty(changed schema.Key) []schema.Key {
	var names []string
	switch changed.Resource {
	case "":
		node, _, _ := strings.Cut(strings.TrimPrefix(changed.Name, schema.BindingsPrefix), "/")
		names = []string{node}
	case schema.Nodes.Resource:
		names = v.dirtyByNode(changed)
	case schema.Pods.Resource:
		names = v.dirtyByPod(changed)
	default:
		names = v.referring(changed)
	}
	keys := make([]schema.Key, 0, len(names))
	for _, name := range names {
		keys = append(keys, schema.Nodes.Key("", name))
	}
	return keys
}

// dirtyByNode is the node alone, as long as others see no difference: a
// heartbeat must not wake everybody.
func (v *viewer) dirtyByNode(changed schema.Key) []string {
	before, known := v.peers[changed.Name]
	node, exists := v.Writer.Mirror.Get(changed).(*corev1.Node)
	switch {
	case !exists && !known:
		return []string{changed.Name}
	case !exists:
		delete(v.peers, changed.Name)
	default:
		now := peer(node)
		if known && reflect.DeepEqual(before, now) {
			return []string{changed.Name}
		}
		v.peers[changed.Name] = now
	}
	v.mu.Lock()
	v.changes++
	v.mu.Unlock()
	return append(slices.Collect(maps.Keys(v.peers)), changed.Name)
}

func (v *viewer) dirtyByPod(changed schema.Key) []string {
	before := v.nodeOf[changed]
	now := ""
	if pod, ok := v.Writer.Mirror.Stored(changed).(*corev1.Pod); ok {
		now = pod.Spec.NodeName
	}
	var out []string
	if before != "" && before != now {
		out = append(out, before)
		delete(v.nodeOf, changed)
	}
	if now != "" {
		out = append(out, now)
		v.nodeOf[changed] = now
	}
	return out
}

func (v *viewer) referring(to schema.Key) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for node, refs := range v.refs {
		if refs[to] {
			out = append(out, node)
		}
	}
	return out
}

// setRefs is called before the objects are read, so that a change after that
// finds its way here.
func (v *viewer) setRefs(node string, refs map[schema.Key]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(refs) == 0 {
		delete(v.refs, node)
		return
	}
	v.refs[node] = refs
}

func (v *viewer) reconcile(ctx context.Context, key schema.Key) error {
	changes, right := v.peersKnown(key.Name)
	view := v.view(key)
	there := v.Writer.Mirror.Raw(schema.BindingPrefix(key.Name))
	peers := slices.IndexFunc(there, func(kv registry.KV) bool {
		return kv.Key == schema.BindingPrefix(key.Name)+schema.BindingPeersName
	})
	view.Known = view.Node != nil && peers >= 0 && right == rightPeers{changes, there[peers].Mod}
	if !view.Known && view.Node != nil {
		view.Peers = registry.ListOf[*corev1.Node](v.Writer.Mirror, schema.Nodes, "")
	}
	writes, err := Compute(view, there)
	if err != nil {
		return fmt.Errorf("view of %s: %w", key, err)
	}
	if peers >= 0 && !writesTo(writes, there[peers].Key) {
		v.setPeersKnown(key.Name, rightPeers{changes, there[peers].Mod})
	}
	if err := v.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("write the view of %s: %w", key, err)
	}
	return nil
}

// peersKnown returns how often peers have changed by now, and which list of a
// node's peers was found to be right. It is called before the nodes are read.
func (v *viewer) peersKnown(node string) (int, rightPeers) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes, v.right[node]
}

func (v *viewer) setPeersKnown(node string, right rightPeers) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.right[node] = right
}

func (v *viewer) forgetPeers(node string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.right, node)
}

func writesTo(writes []registry.Write, path string) bool {
	return slices.ContainsFunc(writes, func(w registry.Write) bool { return w.Raw.Key == path })
}

// view reads what a node's view is made of, but for its peers. The bindings are read after it, so
// that a binding that is newer than its pod here is refused by its guard, not
// overwritten.
func (v *viewer) view(key schema.Key) View {
	m := v.Writer.Mirror
	node, ok := m.Stored(key).(*corev1.Node)
	if !ok {
		v.setRefs(key.Name, nil)
		v.forgetPeers(key.Name)
		return View{Name: key.Name}
	}
	view := View{Name: key.Name, Node: node, Trust: v.Trust}
	refs := map[schema.Key]bool{}
	for _, podKey := range m.PodsOn(key.Name) {
		pod, ok := m.Stored(podKey).(*corev1.Pod)
		if !ok || pod.Spec.NodeName != key.Name {
			continue
		}
		view.Objects = append(view.Objects, pod)
		maps.Copy(refs, Refs(pod))
	}
	v.setRefs(key.Name, refs)
	if volumes := volumesOf(refs, m.Get); len(volumes) > 0 {
		refs = maps.Clone(refs) // the other is read meanwhile
		maps.Copy(refs, volumes)
		v.setRefs(key.Name, refs)
	}
	for ref := range refs {
		if obj := m.Get(ref); obj != nil {
			view.Objects = append(view.Objects, obj)
		}
	}
	return view
}
