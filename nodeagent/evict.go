package nodeagent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

// Eviction says how an agent keeps its node from running out of memory, disk
// and process IDs. The zero value only holds pods to their own limits of disk.
type Eviction struct {
	Thresholds  []pressure.Threshold // from pressure.Parse
	Transition  time.Duration        // how long a condition stays after it was last so; default 5 min
	MaxPodGrace time.Duration        // that a pod gets at a soft threshold
	Interval    time.Duration        // between two looks; default 10 s
	ImageGC     images.Thresholds    // of the images' disk; High 0: images are only removed when a threshold is met
}

func (e *Eviction) validate() error {
	if e.Transition == 0 {
		e.Transition = 5 * time.Minute
	}
	if e.Interval == 0 {
		e.Interval = 10 * time.Second
	}
	return e.ImageGC.Validate()
}

// evictor is the loop that looks after the node's resources.
type evictor struct {
	agent     *agent
	monitor   *pressure.Monitor
	collector collector
	measured  time.Time     // when pods with limits were last measured
	took      time.Duration // how long that took
	refused   map[types.UID]int64
}

// evictionWait bounds how long an evicted pod is waited for before the next
// one goes, as the kubelet has it.
const evictionWait = 30 * time.Second

func (a *agent) keepResources(ctx context.Context) error {
	cfg := a.cfg.Eviction
	e := &evictor{agent: a, monitor: pressure.NewMonitor(cfg.Thresholds, cfg.Transition), collector: collector{agent: a}}
	select {
	case <-ctx.Done():
		return nil
	case <-a.observer.listed:
	}
	for ctx.Err() == nil {
		evicted, err := e.look(ctx)
		if err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("the node's resources not looked after, will be tried again", "error", err)
		}
		if len(evicted) == 0 {
			wait(ctx, cfg.Interval)
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, evictionWait)
		for _, uid := range evicted {
			a.awaitStopped(bounded, uid)
		}
		cancel()
	}
	return nil
}

// awaitStopped waits until nothing of a pod runs.
func (a *agent) awaitStopped(ctx context.Context, uid string) {
	containers, _ := a.observer.containers(uid)
	for _, c := range containers {
		a.observer.awaitExit(ctx, uid, c.ID)
	}
}

// look measures the node, and does what that asks for. It returns the pods
// that it evicted: those over a limit of their own, or else one for the node.
func (e *evictor) look(ctx context.Context) (evicted []string, err error) {
	observed, separate, err := e.agent.meter.Observe(ctx)
	if err != nil && len(observed) == 0 {
		return nil, err
	}
	verdict := e.monitor.Look(observed, time.Now())
	if e.agent.pressure.set(verdict.Conditions, time.Now()) {
		poke(e.agent.nodeChanged)
	}
	e.noticeForks()
	if evicted := e.holdToLimits(ctx, separate); len(evicted) > 0 {
		return evicted, nil
	}
	if len(verdict.Act) == 0 {
		return nil, e.collector.keepImages(ctx, observed)
	}
	return e.relieve(ctx, verdict.Act, observed, separate)
}

// relieve frees what nobody needs, and if that is not enough evicts one pod.
func (e *evictor) relieve(ctx context.Context, act []pressure.Threshold, observed pressure.Observations, separate bool) ([]string, error) {
	signal := act[0].Signal
	e.agent.warnNode("EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", signal.Resource()))
	if signal.IsDisk() {
		if err := e.collector.reclaim(ctx); err != nil {
			e.agent.cfg.Logger.Warn("disk not reclaimed", "error", err)
		}
		again, _, err := e.agent.meter.Observe(ctx)
		if err != nil && len(again) == 0 {
			return nil, err
		}
		if e.monitor.Relieved(again) {
			return nil, nil
		}
	}
	pods := e.measure(ctx, func(*corev1.Pod) bool { return true })
	for _, p := range pressure.Rank(pods, signal, separate) {
		if pressure.IsCritical(p.Pod) {
			continue
		}
		e.agent.evict(p.Pod, pressure.Evict(p, act, observed, e.agent.cfg.Eviction.MaxPodGrace))
		return []string{string(p.UID)}, nil
	}
	e.agent.cfg.Logger.Warn("the node is short of something and has no pod to evict", "signal", signal)
	return nil, nil
}

// noticeForks tells of pods that wanted more processes than they may have. The
// kernel refuses those; the pod goes on, or fails, by itself.
func (e *evictor) noticeForks() {
	if e.agent.cfg.PodPIDs == 0 {
		return
	}
	refused := map[types.UID]int64{}
	for _, pod := range e.agent.livePods() {
		now := e.agent.meter.ForksRefused(string(pod.UID))
		if now > e.refused[pod.UID] {
			e.agent.warn(pod, "PodPIDLimitReached", fmt.Sprintf("The pod has the %d processes and threads that it may have, and was refused more: "+
				"look for what starts them without end, or raise the node agent's --pod-max-pids.", e.agent.cfg.PodPIDs))
		}
		refused[pod.UID] = now
	}
	e.refused = refused
}

// limitShare is which part of the time at most goes into measuring pods that
// have limits.
const limitShare = 20

// holdToLimits evicts the pods that use more disk than they may.
func (e *evictor) holdToLimits(ctx context.Context, separate bool) (evicted []string) {
	if time.Since(e.measured) < limitShare*e.took {
		return nil
	}
	began := time.Now()
	for _, p := range e.measure(ctx, pressure.HasDiskLimits) {
		if eviction, over := pressure.OverLimit(p, separate); over && !pressure.IsCritical(p.Pod) {
			e.agent.evict(p.Pod, eviction)
			evicted = append(evicted, string(p.UID))
		}
	}
	e.measured, e.took = time.Now(), time.Since(began)
	return evicted
}

// measure measures pods of which something runs: only those can be evicted.
// What they were given counts, not what they wait for.
func (e *evictor) measure(ctx context.Context, wanted func(*corev1.Pod) bool) []pressure.Pod {
	var out []pressure.Pod
	for _, pod := range e.agent.livePods() {
		containers, known := e.agent.observer.containers(string(pod.UID))
		runs := slices.ContainsFunc(containers, func(c runtime.Status) bool { return isUp(&c) })
		if !known || !runs || !wanted(pod) {
			continue
		}
		usage, err := e.agent.meter.Usage(ctx, pod, containers)
		if err != nil {
			e.agent.cfg.Logger.Warn("pod not measured", "pod", nameOf(pod), "error", err)
		}
		out = append(out, pressure.Pod{Pod: e.agent.allocations.given(pod), Usage: usage})
	}
	return out
}

// evict ends a pod, and records why and what can be done.
func (a *agent) evict(pod *corev1.Pod, e pressure.Eviction) {
	a.cfg.Logger.Warn("pod evicted", "pod", nameOf(pod), "uid", pod.UID, "reason", e.Message)
	a.warn(pod, pressure.Reason, e.Message+e.Advice)
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[string(pod.UID)]; w != nil {
		w.tell(news{doom: doomBy(e)})
	}
}

func doomBy(e pressure.Eviction) *Doom {
	return &Doom{Reason: pressure.Reason, Message: e.Message, Grace: &e.Grace, Disrupted: e.Disrupted}
}

// admit tells a new worker's pod if the node can take no such pod now. One
// that was here before is none.
func (a *agent) admit(w *worker) {
	pod := a.bindings.pod(w.uid)
	if pod == nil || w.said.StartTime != nil || a.observer.has(w.uid) {
		return
	}
	if e, ok := pressure.Admit(pod, schema.QOSClass(pod), a.pressure.types()); !ok {
		a.warn(pod, pressure.Reason, e.Message+e.Advice)
		w.tell(news{doom: doomBy(e)})
	}
}

// warnNode records that something is wrong with the node.
func (a *agent) warnNode(reason, message string) {
	if node := a.bindings.node(); node != nil {
		a.cfg.Recorder.Event(node, corev1.EventTypeWarning, reason, message)
	}
}
