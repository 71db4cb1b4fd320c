package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Recorder records events; a *registry.Recorder is one.
type Recorder interface {
	Event(about schema.Object, eventType, reason, message string)
}

// Config says what a scheduler works on.
type Config struct {
	Mirror     *registry.Mirror     // holds pods and nodes
	Registries *registry.Registries // fenced by the leader's term
	Recorder   Recorder
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are not exported

	BatchSize int // pods bound in one transaction; default 25
	InFlight  int // transactions at once; default 4
}

// maxBatch keeps a batch below the store's limit of operations: two a pod.
const maxBatch = registry.MaxOps / 3

func (c *Config) validate() error {
	if c.BatchSize == 0 {
		c.BatchSize = 25
	}
	if c.InFlight == 0 {
		c.InFlight = 4
	}
	switch {
	case c.Mirror == nil || c.Registries == nil || c.Recorder == nil || c.Logger == nil:
		return fmt.Errorf("scheduler: Mirror, Registries, Recorder and Logger are required")
	case c.BatchSize < 1 || c.BatchSize > maxBatch:
		return fmt.Errorf("scheduler: BatchSize is %d, must be 1 to %d", c.BatchSize, maxBatch)
	case c.InFlight < 1:
		return fmt.Errorf("scheduler: InFlight is %d, must be at least 1", c.InFlight)
	}
	return nil
}

// loop is the state of a running scheduler; one goroutine owns it. A pod that
// is to be bound is in queue or parked, or has its room reserved in state until
// its binding has failed or was seen.
type loop struct {
	cfg     Config
	metrics *metrics
	state   *State
	queue   *queue
	parked  map[schema.Key]Failure // fit nowhere; until room appears
	reasons map[schema.Key]bool    // parked pods whose reason is to be written

	free    int // transactions that may be started
	results chan outcome
	workers sync.WaitGroup
}

// Run schedules until ctx ends (nil) or the term of its leader does
// (registry.ErrFenced). It decides on nothing before the mirror has seen all
// that earlier leaders did.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return err
	}
	defer m.unregister()
	select {
	case <-ctx.Done():
		return nil
	case <-cfg.Mirror.Synced():
	}
	if err := cfg.Mirror.WaitFor(ctx, cfg.Registries.Term()); err != nil {
		return nil
	}
	l := &loop{
		cfg: cfg, metrics: m, state: NewState(), queue: newQueue(),
		parked: map[schema.Key]Failure{}, reasons: map[schema.Key]bool{},
		free: cfg.InFlight, results: make(chan outcome, cfg.InFlight+1), // a dispatch may start two at once
	}
	l.state.SetVolumes(viewOf(cfg.Mirror))
	return l.run(ctx)
}

func (l *loop) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer l.workers.Wait()
	defer cancel()
	changes := l.cfg.Mirror.Subscribe(schema.Namespaces, schema.Nodes, schema.Pods, schema.PersistentVolumeClaims, schema.PersistentVolumes, schema.StorageClasses)
	defer changes.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes.Ready():
			l.see(changes.Take())
		case done := <-l.results:
			l.free++
			if done.err != nil {
				return done.err
			}
			l.settle(done)
		}
		l.dispatch(ctx)
		l.metrics.parked.Set(float64(len(l.parked)))
	}
}

// see takes in what changed.
func (l *loop) see(keys []schema.Key) {
	room := false
	for _, key := range keys {
		switch key.Resource {
		case schema.Namespaces.Resource:
			namespace, _ := l.cfg.Mirror.Get(key).(*corev1.Namespace)
			room = l.state.SetNamespace(key.Name, namespace) || room
		case schema.Nodes.Resource:
			node, _ := l.cfg.Mirror.Get(key).(*corev1.Node)
			room = l.state.SetNode(key.Name, node) || room
		case schema.Pods.Resource:
			room = l.seePod(key) || room
		default:
			room = true // for who waits for a volume
		}
	}
	if room {
		l.unpark()
	}
}

// seePod reports whether there is room now that was not there before.
func (l *loop) seePod(key schema.Key) bool {
	pod, _ := l.cfg.Mirror.Get(key).(*corev1.Pod)
	room := l.state.SetPod(key, pod)
	switch {
	case pod == nil || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || finished(pod):
		l.queue.remove(key)
		delete(l.parked, key)
		delete(l.reasons, key)
	case l.state.Reserved(key, pod.UID):
		// being bound, or bound and not yet seen so: settle decides
	case sameWish(l.parked[key].Pod, pod):
		l.park(Failure{Pod: pod, Reason: l.parked[key].Reason})
	default:
		delete(l.parked, key)
		delete(l.reasons, key)
		l.queue.set(key, pod)
	}
	return room
}

// sameWish reports whether a pod that fitted nowhere is as it was then, in all
// that a node is chosen by.
func sameWish(parked, now *corev1.Pod) bool {
	return parked != nil && parked.UID == now.UID && parked.Generation == now.Generation && maps.Equal(parked.Labels, now.Labels)
}

// park puts a pod aside; its reason is written if it does not say so already.
func (l *loop) park(f Failure) {
	key := schema.KeyOf(f.Pod)
	if scheduledMessage(f.Pod) != f.Reason {
		if l.parked[key].Reason != f.Reason {
			l.cfg.Recorder.Event(f.Pod, corev1.EventTypeWarning, "FailedScheduling", f.Reason)
		}
		l.reasons[key] = true
	} else {
		delete(l.reasons, key)
	}
	l.parked[key] = f
}

func scheduledMessage(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

func (l *loop) unpark() {
	l.requeue()
	clear(l.state.hopes) // who still needs another says so again
}

// requeue has all tried again that fitted nowhere.
func (l *loop) requeue() {
	for key, f := range l.parked {
		l.queue.set(key, f.Pod)
	}
	clear(l.parked)
	clear(l.reasons)
}

// dispatch schedules and starts transactions while there are any to start;
// batch by batch, so that the first pods are bound while the last ones wait.
func (l *loop) dispatch(ctx context.Context) {
	for l.free > 0 {
		pods := l.queue.pop(l.cfg.BatchSize)
		if len(pods) == 0 {
			break
		}
		began := time.Now()
		result := Schedule(pods, l.state)
		l.metrics.schedule.Observe(time.Since(began).Seconds())
		if result.Arrived {
			l.requeue()
		}
		for _, f := range result.Unschedulable {
			l.park(f)
		}
		if len(result.Bindings) > 0 {
			l.start(func() outcome { return l.bind(ctx, result.Bindings) })
		}
		if len(result.Selections) > 0 {
			l.start(func() outcome { return l.selectNodes(ctx, result.Selections) })
		}
	}
	for l.free > 0 && len(l.reasons) > 0 {
		batch := l.takeReasons()
		l.start(func() outcome { return l.writeReasons(ctx, batch) })
	}
}

func (l *loop) takeReasons() []Failure {
	var batch []Failure
	for key := range l.reasons {
		if len(batch) == l.cfg.BatchSize {
			break
		}
		batch = append(batch, l.parked[key])
		delete(l.reasons, key)
	}
	return batch
}

func (l *loop) start(work func() outcome) {
	l.free--
	l.workers.Go(func() { l.results <- work() })
}

// settle takes in the end of a transaction. Pods that were bound keep their
// room until the mirror shows them so; of the others the mirror knows better
// by now, or will soon: what changes there comes as a change.
func (l *loop) settle(done outcome) {
	for _, r := range done.refused {
		l.state.Release(schema.KeyOf(r.Pod), r.Pod.UID)
	}
	if len(done.refused) > 0 {
		l.unpark() // their room may be for others
	}
	for _, r := range done.refused {
		key := schema.KeyOf(r.Pod)
		now, _ := l.cfg.Mirror.Get(key).(*corev1.Pod)
		switch {
		case now == nil || now.Spec.NodeName != "":
		case now.ResourceVersion != r.Pod.ResourceVersion || r.nodeGone && !l.state.HasNode(r.Node):
			l.seePod(key)
		case r.nodeGone || r.never:
			l.park(Failure{Pod: now, Reason: r.reason})
		}
	}
	for _, f := range done.unwritten {
		key := schema.KeyOf(f.Pod)
		if l.parked[key].Reason == f.Reason {
			l.reasons[key] = true
		}
	}
}
