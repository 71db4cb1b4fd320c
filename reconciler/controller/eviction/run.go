package eviction

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
)

// DefaultEvictAfter is that of a zero Config.
const DefaultEvictAfter = 5 * time.Second

// recordEvery is how often it is noted for how long pods have waited: at most
// that much of it is lost with a leader, beside the time without one.
const recordEvery = 10 * time.Second

// Config says what the controller works on; Writer, Recorder and Logger are
// required.
type Config struct {
	Writer     controller.Writer
	Recorder   controller.Recorder
	Metrics    *controller.Metrics
	Logger     *slog.Logger
	EvictAfter time.Duration // how long a pod that does not say so stays on a node that is tainted as gone
}

// evictor looks at all nodes.
type evictor struct {
	Config
	began time.Time

	mu    sync.Mutex
	nodes map[string]*tainted
}

// tainted is a node with NoExecute taints. One worker at a time has it.
type tainted struct {
	clocks   Clocks
	waiting  map[types.UID]bool // as last judged
	recorded time.Time          // when, or when this process began to look
}

// Run evicts until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	if cfg.EvictAfter == 0 {
		cfg.EvictAfter = DefaultEvictAfter
	}
	if cfg.EvictAfter < 0 {
		return fmt.Errorf("eviction: EvictAfter is %v, must be positive", cfg.EvictAfter)
	}
	e := &evictor{Config: cfg, began: time.Now(), nodes: map[string]*tainted{}}
	loop := controller.Loop{
		Name: "eviction", Mirror: cfg.Writer.Mirror, After: cfg.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Nodes, schema.Pods}, Raw: schema.EvictionsPrefix,
		Map: e.dirty, Reconcile: e.reconcile, Workers: 4, Metrics: cfg.Metrics, Logger: cfg.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the node that a change concerns, if there may be something to do
// on it.
func (e *evictor) dirty(changed schema.Key) []schema.Key {
	switch changed.Resource {
	case "":
		return []schema.Key{schema.Nodes.Key("", strings.TrimPrefix(changed.Name, schema.EvictionsPrefix))}
	case schema.Nodes.Resource:
		return []schema.Key{changed}
	}
	pod, ok := e.Writer.Mirror.Stored(changed).(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	key := schema.Nodes.Key("", pod.Spec.NodeName)
	if node, _ := e.Writer.Mirror.Stored(key).(*corev1.Node); !isTainted(node) {
		return nil
	}
	return []schema.Key{key}
}

func isTainted(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
}

// reconcile sends away whose time on a node is over.
func (e *evictor) reconcile(ctx context.Context, key schema.Key) error {
	m := e.Writer.Mirror
	node, _ := m.Stored(key).(*corev1.Node)
	if !isTainted(node) {
		if waited := e.forget(key.Name); len(waited) > 0 {
			e.cancel(key.Name, e.podsOn(key.Name), waited, Verdict{})
		}
		return e.dropRecord(ctx, key.Name)
	}
	now := time.Now()
	t, err := e.taintedNode(node, now)
	if err != nil {
		return err
	}
	pods := e.podsOn(key.Name)
	t.clocks.follow(node, pods, now)
	joined, _ := m.Get(key).(*corev1.Node)
	v := Judge(Scene{
		Node: node, Present: m.NodePresent(key.Name), Ready: isReady(joined), Pods: pods,
		Clocks: t.clocks, Looking: now.Sub(e.began), EvictAfter: e.EvictAfter,
	}, now)
	e.cancel(key.Name, pods, t.waiting, v)
	t.waiting = v.Waiting
	if err := e.evict(ctx, node, v.Evict); err != nil {
		return err
	}
	again, err := e.record(ctx, node, t, now)
	if err != nil {
		return err
	}
	if again > 0 && (v.Again == 0 || again < v.Again) {
		v.Again = again
	}
	if v.Again > 0 {
		return controller.Later{After: v.Again}
	}
	return nil
}

func isReady(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (e *evictor) podsOn(node string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, key := range e.Writer.Mirror.PodsOn(node) {
		if pod, ok := e.Writer.Mirror.Get(key).(*corev1.Pod); ok {
			out = append(out, pod)
		}
	}
	return out
}

// taintedNode is what is known of a node that is tainted, with the clocks of
// an earlier leader if this one sees it for the first time.
func (e *evictor) taintedNode(node *corev1.Node, now time.Time) (*tainted, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t := e.nodes[node.Name]; t != nil {
		return t, nil
	}
	var r Record
	if kv, ok := e.Writer.Mirror.RawKey(schema.EvictionsPrefix + node.Name); ok {
		var err error
		if r, err = parseRecord(kv.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
	}
	t := &tainted{clocks: newClocks(node, r, now), recorded: now}
	e.nodes[node.Name] = t
	return t, nil
}

// forget drops a node that is no longer tainted, and returns which of its pods
// waited.
func (e *evictor) forget(node string) map[types.UID]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.nodes[node]
	delete(e.nodes, node)
	if t == nil {
		return nil
	}
	return t.waiting
}
