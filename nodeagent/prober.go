package nodeagent

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/probe"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// prober runs the probes of a pod's running containers and holds what they
// found. A goroutine a probe; the worker is woken when a finding changes.
type prober struct {
	worker *worker
	tasks  sync.WaitGroup

	mu       sync.Mutex
	monitors map[string]*monitor // by container ID
}

// monitor is one container being probed.
type monitor struct {
	cancel context.CancelFunc
	health Health
}

func newProber(w *worker) *prober { return &prober{worker: w, monitors: map[string]*monitor{}} }

// watch probes exactly the containers that run, and returns their health.
func (p *prober) watch(ctx context.Context, pod *corev1.Pod, o Observed) map[string]Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]Health{}
	running := map[string]bool{}
	for _, c := range o.Containers {
		if c.State != runtime.Running || pod == nil {
			continue
		}
		running[c.ID] = true
		if p.monitors[c.ID] == nil {
			if !o.Prepared || o.Stopping[c.ID] {
				continue
			}
			p.startLocked(ctx, pod, c, o.IP)
		}
		out[c.ID] = p.monitors[c.ID].health
	}
	for id, m := range p.monitors {
		if !running[id] {
			m.cancel()
			delete(p.monitors, id)
		}
	}
	return out
}

// forget stops the probes of a container that is being stopped; it is not
// ready from now on.
func (p *prober) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.monitors[id]; m != nil {
		m.cancel()
		m.health.Ready = false
	}
}

// close waits for the probes, whose context has ended.
func (p *prober) close() { p.tasks.Wait() }

// startLocked begins to probe a container. What an earlier process of the
// agent said of it holds until the probes say otherwise.
func (p *prober) startLocked(ctx context.Context, pod *corev1.Pod, c runtime.Status, podIP string) {
	spec := containerNamed(pod, c.Name)
	ctx, cancel := context.WithCancel(ctx)
	m := &monitor{cancel: cancel}
	p.monitors[c.ID] = m
	m.health.Started = spec.StartupProbe == nil
	m.health.Ready = spec.ReadinessProbe == nil
	for _, before := range p.worker.said.ContainerStatuses {
		if before.ContainerID == "containerd://"+c.ID {
			m.health.Started = m.health.Started || before.Started != nil && *before.Started
			m.health.Ready = m.health.Ready || before.Ready
		}
	}
	started := make(chan struct{})
	if m.health.Started {
		close(started)
	}
	begin := func(kind string, def *corev1.Probe, initial probe.Result, after <-chan struct{}, found func(probe.Result, string)) {
		if def == nil {
			return
		}
		p.tasks.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-after:
			}
			p.loop(ctx, attempt{kind: kind, def: def, container: spec, id: c.ID, podIP: podIP, startedAt: c.StartedAt, initial: initial}, found)
		})
	}
	now := make(chan struct{})
	close(now)
	if !m.health.Started {
		begin("Startup", spec.StartupProbe, probe.Unknown, now, func(r probe.Result, message string) {
			p.set(m, func(h *Health) { h.Started, h.Failed = r == probe.Success, failed(r, "startup", message) })
			if r == probe.Success && !isClosed(started) {
				close(started)
			}
		})
	}
	begin("Readiness", spec.ReadinessProbe, resultOf(m.health.Ready), started, func(r probe.Result, _ string) {
		p.set(m, func(h *Health) { h.Ready = r == probe.Success })
	})
	begin("Liveness", spec.LivenessProbe, probe.Success, started, func(r probe.Result, message string) {
		p.set(m, func(h *Health) { h.Failed = failed(r, "liveness", message) })
	})
}

func resultOf(ok bool) probe.Result {
	if ok {
		return probe.Success
	}
	return probe.Failure
}

func failed(r probe.Result, kind, message string) string {
	if r != probe.Failure {
		return ""
	}
	return fmt.Sprintf("failed %s probe: %s", kind, message)
}

func (p *prober) set(m *monitor, change func(*Health)) {
	p.mu.Lock()
	change(&m.health)
	p.mu.Unlock()
	p.worker.wake()
}

// attempt is one probe of one container.
type attempt struct {
	kind      string
	def       *corev1.Probe
	container *corev1.Container
	id, podIP string
	startedAt time.Time
	initial   probe.Result
}

// loop makes attempts when they are due until ctx ends, or a startup probe has
// passed.
func (p *prober) loop(ctx context.Context, a attempt, found func(probe.Result, string)) {
	resolved, err := probe.Resolve(a.def, a.container, a.podIP)
	if err != nil {
		p.worker.warn("Unhealthy", fmt.Sprintf("%s probe: %v", a.kind, err))
		return
	}
	counter := probe.NewCounter(probe.ScheduleOf(a.def), a.startedAt, a.initial)
	for {
		wait(ctx, time.Until(counter.Next(time.Now())))
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		result, message := probe.Run(ctx, resolved, p.worker.execIn(a.id))
		if ctx.Err() != nil {
			return
		}
		decided := counter.Observe(began, result)
		if result == probe.Failure {
			p.worker.warn("Unhealthy", fmt.Sprintf("%s probe failed: %s", a.kind, message))
		}
		if decided {
			found(counter.State(), message)
		}
		if a.kind == "Startup" && decided && counter.State() == probe.Success {
			return
		}
	}
}
