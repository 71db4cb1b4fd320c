package garbage

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controller works on; all fields but Metrics are
// required.
type Config struct {
	Writer  controller.Writer
	Metrics *controller.Metrics
	Logger  *slog.Logger
}

// surplusKey stands for all finished pods together.
var surplusKey = schema.Key{Resource: "finished pods"}

// collector removes what nobody needs.
type collector struct {
	Config
	mu       sync.Mutex
	finished map[schema.Key]bool  // pods, as last seen
	missing  map[string]time.Time // nodes that pods are bound to but that are not there, by our own clock
}

// Run removes garbage until ctx ends (nil) or the leader's term does
// (registry.ErrFenced).
func Run(ctx context.Context, cfg Config) error {
	c := &collector{Config: cfg, finished: map[schema.Key]bool{}, missing: map[string]time.Time{}}
	h := &heirs{Config: cfg, graph: newGraph()}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.run(ctx) })
	g.Go(func() error { return h.run(ctx) })
	return g.Wait()
}

func (c *collector) run(ctx context.Context) error {
	loop := controller.Loop{
		Name: "garbage", Mirror: c.Writer.Mirror, After: c.Writer.Registries.Term(),
		Kinds: []*schema.Kind{schema.Nodes, schema.Pods},
		Map:   c.dirty, Reconcile: c.reconcile, Workers: 4, Metrics: c.Metrics, Logger: c.Logger,
	}
	return loop.Run(ctx)
}

// dirty names the pods whose fate a change may alter.
func (c *collector) dirty(changed schema.Key) []schema.Key {
	m := c.Writer.Mirror
	if changed.Resource == schema.Nodes.Resource {
		if m.Get(changed) != nil {
			c.found(changed.Name)
			return nil
		}
		return m.PodsOn(changed.Name)
	}
	pod, _ := m.Get(changed).(*corev1.Pod)
	if c.note(changed, pod != nil && finished(pod)) > KeepFinished {
		return []schema.Key{changed, surplusKey}
	}
	return []schema.Key{changed}
}

func (c *collector) note(pod schema.Key, isFinished bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isFinished {
		c.finished[pod] = true
	} else {
		delete(c.finished, pod)
	}
	return len(c.finished)
}

func (c *collector) found(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.missing, node)
}

// gone is how long a node has been missing, from the first time that anybody
// asked.
func (c *collector) gone(node string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing[node].IsZero() {
		c.missing[node] = time.Now()
	}
	return time.Since(c.missing[node])
}

func (c *collector) reconcile(ctx context.Context, key schema.Key) error {
	if key == surplusKey {
		return c.removeSurplus(ctx)
	}
	statuses := c.Writer.Mirror.PodStatuses(key) // before the pod: those of a newer one are not among them
	pod, _ := c.Writer.Mirror.Get(key).(*corev1.Pod)
	if err := c.dropStatuses(ctx, key, pod, statuses); err != nil {
		return err
	}
	if pod == nil {
		return nil
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && finished(pod) {
		if err := c.end(ctx, Surplus(c.pods(c.Writer.Mirror.PodsOf(ref.UID)), KeepFinishedOfOne)); err != nil {
			return err
		}
	}
	return c.carryOut(ctx, key, pod)
}

// carryOut gives a pod the fate that it has earned.
func (c *collector) carryOut(ctx context.Context, key schema.Key, pod *corev1.Pod) error {
	f := Facts{Pod: pod}
	d := &registry.Deletion{Key: key, UID: pod.UID}
	var guard *registry.Guard
	node := schema.Nodes.Key("", pod.Spec.NodeName)
	if f.NodeExists = c.Writer.Mirror.Get(node) != nil; !f.NodeExists && node.Name != "" {
		f.NodeGone = c.gone(node.Name)
	}
	switch fate := Judge(f); fate {
	case Keep:
		return nil
	case Wait:
		return controller.Later{After: orphanAfter - f.NodeGone}
	case Remove:
		d.GraceSeconds = new(int64)
		if !f.NodeExists && node.Name != "" {
			guard = &registry.Guard{Key: node.Path(), Mod: registry.Absent}
		}
	}
	if _, err := c.Writer.Commit(ctx, registry.Write{Delete: d, Guard: guard}); err != nil {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}

// dropStatuses removes what agents say of a pod that is gone, or is another
// node's.
func (c *collector) dropStatuses(ctx context.Context, key schema.Key, pod *corev1.Pod, statuses []registry.PodStatus) error {
	var writes []registry.Write
	for _, s := range statuses {
		if pod != nil && pod.Spec.NodeName == s.Node {
			continue
		}
		path := schema.PodStatusPath(s.Node, key.Namespace, key.Name)
		op := registry.Delete(path)
		writes = append(writes, registry.Write{Raw: &op, Guard: &registry.Guard{Key: path, Mod: controller.Mod(s.Object)}})
	}
	if err := c.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("drop statuses of %s: %w", key, err)
	}
	return nil
}

func (c *collector) removeSurplus(ctx context.Context) error {
	c.mu.Lock()
	keys := slices.Collect(maps.Keys(c.finished))
	c.mu.Unlock()
	return c.end(ctx, Surplus(c.pods(keys), KeepFinished))
}

func (c *collector) pods(keys []schema.Key) []*corev1.Pod {
	var out []*corev1.Pod
	for _, key := range keys {
		if pod, ok := c.Writer.Mirror.Get(key).(*corev1.Pod); ok {
			out = append(out, pod)
		}
	}
	return out
}

// end deletes pods gracefully.
func (c *collector) end(ctx context.Context, pods []*corev1.Pod) error {
	var writes []registry.Write
	for _, pod := range pods {
		writes = append(writes, registry.Write{Delete: &registry.Deletion{Key: schema.KeyOf(pod), UID: pod.UID}})
	}
	if err := c.Writer.CommitAll(ctx, writes); err != nil {
		return fmt.Errorf("remove %d finished pods: %w", len(pods), err)
	}
	return nil
}
