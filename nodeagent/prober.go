package nodeagent

import (
	"context"
	"fmt"
	"slices"
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
	cancel  context.CancelFunc // of all probes
	restart context.CancelFunc // of those that may have it restarted
	health  Health
}

func newProber(w *worker) *prober { return &prober{worker: w, monitors: map[string]*monitor{}} }

// watch probes exactly the containers that run, and returns their health. For
// containers that are going, or cannot be probed yet, it is what was said of
// them before.
func (p *prober) watch(ctx context.Context, pod *corev1.Pod, o Observed) map[string]Health {
	if pod == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]Health{}
	for _, c := range o.Containers {
		if c.State != runtime.Running && c.State != runtime.Unknown {
			continue
		}
		m := p.monitors[c.ID]
		switch {
		case m != nil:
			out[c.ID] = m.health
		case c.State == runtime.Unknown || o.Stopping[c.ID] || pod.DeletionTimestamp != nil || o.IP == "":
			out[c.ID] = p.before(c.ID)
		case o.Hooks[c.ID]:
			out[c.ID] = Health{}
		default:
			out[c.ID] = p.startLocked(ctx, pod, c, o.IP)
		}
	}
	for id, m := range p.monitors {
		if _, here := out[id]; !here {
			m.cancel()
			delete(p.monitors, id)
		}
	}
	return out
}

// before is the health that was last published of a container, by this
// process or an earlier one.
func (p *prober) before(id string) Health {
	for _, c := range slices.Concat(p.worker.said.ContainerStatuses, p.worker.said.InitContainerStatuses) {
		if c.ContainerID == "containerd://"+id {
			return Health{Started: c.Started != nil && *c.Started, Ready: c.Ready}
		}
	}
	return Health{}
}

// forget stops the probes of a container that is being stopped; it is not
// ready from now on. If that is because its pod is going, it is still asked
// whether it serves: endpoints that end are used where there is no other.
func (p *prober) forget(id string, going bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.monitors[id]
	switch {
	case m == nil:
	case going:
		m.restart()
	default:
		m.cancel()
		m.health.Ready = false
	}
}

// close waits for the probes, whose context has ended.
func (p *prober) close() { p.tasks.Wait() }

// startLocked begins to probe a container. What an earlier process of the
// agent said of it holds until the probes say otherwise.
func (p *prober) startLocked(ctx context.Context, pod *corev1.Pod, c runtime.Status, podIP string) Health {
	spec := containerNamed(pod, c.Name)
	ctx, cancel := context.WithCancel(ctx)
	restartCtx, restart := context.WithCancel(ctx)
	m := &monitor{cancel: cancel, restart: restart}
	p.monitors[c.ID] = m
	before := p.before(c.ID)
	m.health.Started = spec.StartupProbe == nil || before.Started
	m.health.Ready = spec.ReadinessProbe == nil || before.Ready
	health := m.health // the probes may change it from here on
	started := make(chan struct{})
	if health.Started {
		close(started)
	}
	begin := func(ctx context.Context, kind string, def *corev1.Probe, initial probe.Result, after <-chan struct{}, found func(probe.Result, string)) {
		if def == nil {
			return
		}
		a := attempt{kind: kind, def: def, pod: pod, container: spec, id: c.ID, podIP: podIP, startedAt: c.StartedAt, initial: initial}
		p.tasks.Go(func() {
			select {
			case <-ctx.Done():
			case <-after:
				p.loop(ctx, a, found)
			}
		})
	}
	now := make(chan struct{})
	close(now)
	if !health.Started {
		begin(restartCtx, "Startup", spec.StartupProbe, probe.Unknown, now, func(r probe.Result, message string) {
			p.set(m, func(h *Health) {
				h.Started, h.Failed, h.Grace = r == probe.Success, failed(r, "startup", message), spec.StartupProbe.TerminationGracePeriodSeconds
			})
			if r == probe.Success && !isClosed(started) {
				close(started)
			}
		})
	}
	begin(ctx, "Readiness", spec.ReadinessProbe, resultOf(health.Ready), started, func(r probe.Result, _ string) {
		p.set(m, func(h *Health) { h.Ready = r == probe.Success })
	})
	begin(restartCtx, "Liveness", spec.LivenessProbe, probe.Success, started, func(r probe.Result, message string) {
		p.set(m, func(h *Health) {
			h.Failed, h.Grace = failed(r, "liveness", message), spec.LivenessProbe.TerminationGracePeriodSeconds
		})
	})
	return health
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
	poke(p.worker.awake)
}

// attempt is one probe of one container.
type attempt struct {
	kind      string
	def       *corev1.Probe
	pod       *corev1.Pod
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
		p.worker.agent.warn(a.pod, "Unhealthy", fmt.Sprintf("%s probe: %v", a.kind, err))
		return
	}
	schedule := probe.ScheduleOf(a.def)
	counter := probe.NewCounter(schedule, a.startedAt, a.initial)
	early := earlyLooks{delay: firstEarlyLook, after: a.startedAt.Add(schedule.InitialDelay)}
	early.wanted = a.initial != probe.Success && a.kind != "Liveness" && a.def.SuccessThreshold <= 1 && resolved.Exec == nil
	for {
		well := early.until(ctx, counter.Next(time.Now()), func() bool {
			result, _ := probe.Run(ctx, resolved, nil)
			return result == probe.Success
		})
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		result, message := probe.Success, ""
		if !well {
			result, message = probe.Run(ctx, resolved, p.worker.execIn(a.id))
		}
		if ctx.Err() != nil {
			return
		}
		early.wanted = early.wanted && result != probe.Success
		decided := counter.Observe(began, result)
		if result == probe.Failure {
			p.worker.agent.warn(a.pod, "Unhealthy", fmt.Sprintf("%s probe failed: %s", a.kind, message))
		}
		if decided {
			found(counter.State(), message)
		}
		if a.kind == "Startup" && decided && counter.State() == probe.Success {
			return
		}
	}
}

// firstEarlyLook is how soon a container that was not yet well is looked at
// again.
const firstEarlyLook = 25 * time.Millisecond

// earlyLooks see a container that has just come up before its probe is due:
// most serve within some tens of milliseconds, and a period is at least a
// second. They end with the first success and grow rarer. A failure in between
// says nothing: only attempts that are due count for the threshold.
type earlyLooks struct {
	wanted bool
	after  time.Time // the probe's initial delay is over
	delay  time.Duration
}

// until waits for the time an attempt is due; true if the container was seen
// to be well before.
func (e *earlyLooks) until(ctx context.Context, due time.Time, look func() bool) bool {
	wait(ctx, time.Until(e.after))
	for e.wanted && ctx.Err() == nil && time.Until(due) > e.delay {
		wait(ctx, e.delay)
		e.delay *= 2
		if ctx.Err() == nil && look() {
			return true
		}
	}
	wait(ctx, time.Until(due))
	return false
}
