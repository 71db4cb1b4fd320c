package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/probe"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// drainDelay is how long a container that was ready goes on serving after its
// pod was marked, so that the proxies have heard of it: an endpoint change
// takes some tens of milliseconds to reach them.
const drainDelay = 250 * time.Millisecond

// killWait bounds how long a killed container may take to be reported exited.
const killWait = 10 * time.Second

// preStopExtra is what a container gets to end by itself when its preStop hook
// took all of its grace (Kubernetes: "Container lifecycle hooks").
const preStopExtra = 2 * time.Second

// stop ends a container beside everything else; the worker is woken when it is
// over. With the agent it ends half-way, and the next one begins again.
func (w *worker) stop(ctx context.Context, action Action, o Observed) {
	job := w.newStop(action, o, time.Now())
	going := w.going()
	if going && job.first && o.Health[action.ID].Ready {
		job.drain = drainDelay
	}
	if action.Replace {
		w.replaced[action.ID] = true
	}
	job.hurry = make(chan time.Duration, 1)
	w.mu.Lock()
	w.stops[action.ID] = job
	if cancel := w.hooks[action.ID]; cancel != nil {
		cancel()
	}
	w.mu.Unlock()
	w.agent.note(w.pod, "Killing", fmt.Sprintf("Stopping container %s: %s", job.container, action.Reason))
	w.probes.forget(action.ID, going)
	w.tasks.Go(func() {
		err := job.run(ctx)
		if err != nil && ctx.Err() == nil {
			w.agent.cfg.Logger.Warn("pod stop", "pod", nameOf(job.pod), "uid", w.uid, "container", job.container, "error", err)
			wait(ctx, time.Second)
		}
		w.mu.Lock()
		delete(w.stops, action.ID)
		w.mu.Unlock()
		poke(w.awake)
	})
}

// newStop says how a container is to be stopped. Containers that are stopped
// one after the other because their pod ends share its grace, but each has
// some time to itself.
func (w *worker) newStop(action Action, o Observed, now time.Time) *stopJob {
	job := &stopJob{worker: w, id: action.ID, pod: w.pod, podIP: o.IP, began: now, grace: w.grace(), first: true, signal: int(syscall.SIGTERM)}
	for _, c := range o.Containers {
		if c.ID == action.ID {
			job.container = c.Name
			if c.StopSignal != 0 {
				job.signal = c.StopSignal
			}
		}
	}
	switch {
	case w.going() || finishing(w.pod, o, now) != "":
		if w.ending.IsZero() {
			w.ending = now
		}
		job.first = sidecarPlace(w.pod, job.container) < 0
		job.began = w.ending
	case action.Grace != nil:
		job.grace = time.Duration(*action.Grace) * time.Second
	}
	job.deadline = job.began.Add(job.grace)
	if least := now.Add(min(minimumGrace, job.grace)); job.deadline.Before(least) {
		job.deadline = least
	}
	return job
}

// minimumGrace is what a container has at least to end by itself, if its pod
// has any grace.
const minimumGrace = 2 * time.Second

// going reports whether the pod is being deleted.
func (w *worker) going() bool { return w.pod == nil || w.pod.DeletionTimestamp != nil }

// grace is how long the pod's containers have between the request and SIGKILL.
func (w *worker) grace() time.Duration {
	grace := corev1.DefaultTerminationGracePeriodSeconds * time.Second
	if w.pod != nil {
		grace = graceOf(w.pod)
	}
	if w.doom != nil && w.doom.Grace != nil && !w.going() {
		grace = *w.doom.Grace
	}
	if now := time.Now(); w.mustStop(now) {
		_, stopped := w.agent.presence.deadlines()
		grace = min(grace, max(0, stopped.Sub(now)))
	}
	return grace
}

// shortenStops tells stops under way that the grace is now a shorter one:
// because the pod is being deleted, or its node cut off.
func (w *worker) shortenStops() {
	if !w.going() && !w.mustStop(time.Now()) {
		return
	}
	grace := w.grace()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, job := range w.stops {
		if grace < job.grace {
			job.grace = grace
			select {
			case <-job.hurry:
			default:
			}
			job.hurry <- grace
		}
	}
}

// stopJob is one container being stopped: wait for the proxies, preStop,
// SIGTERM, and SIGKILL when the grace is over (Kubernetes: "Termination of
// Pods").
type stopJob struct {
	worker    *worker
	pod       *corev1.Pod
	podIP     string
	id        string
	container string
	began     time.Time
	deadline  time.Time          // as first set
	grace     time.Duration      // of the worker alone; the job hears of changes by hurry
	hurry     chan time.Duration // has room for one: a shorter grace
	drain     time.Duration
	first     bool // no other was stopped before it
	signal    int
}

func (j *stopJob) run(ctx context.Context) error {
	graceful, cancel := j.graceful(ctx)
	defer cancel()
	wait(graceful, j.drain)
	if j.hasPreStop() && graceful.Err() == nil {
		if err := j.preStop(graceful); err != nil && ctx.Err() == nil {
			j.worker.agent.warn(j.pod, "FailedPreStopHook", err.Error())
		}
		if graceful.Err() != nil {
			graceful, cancel = context.WithTimeout(ctx, preStopExtra)
			defer cancel()
		}
	}
	if graceful.Err() == nil && j.terminated(graceful) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := j.worker.agent.cfg.Runtime.Kill(ctx, j.id); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("kill: %w", err)
	}
	return j.awaitExit(ctx)
}

// graceful is a context that ends with the grace, also when that becomes
// shorter meanwhile.
func (j *stopJob) graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	graceful, cancel := context.WithCancel(ctx)
	left := time.Until(j.deadline)
	if left <= 0 {
		cancel()
		return graceful, cancel
	}
	timer := time.NewTimer(left)
	j.worker.tasks.Go(func() {
		defer timer.Stop()
		defer cancel()
		for {
			select {
			case <-graceful.Done():
				return
			case <-timer.C:
				return
			case grace := <-j.hurry:
				timer.Reset(time.Until(j.began.Add(grace)))
			}
		}
	})
	return graceful, cancel
}

// terminated sends the signal to end, SIGTERM or the image's own, and reports whether the container ended by it in
// time. A signal that cannot be sent is sent again.
func (j *stopJob) terminated(ctx context.Context) bool {
	for {
		err := j.worker.agent.cfg.Runtime.Signal(ctx, j.id, j.signal)
		if err == nil {
			break
		}
		if errors.Is(err, runtime.ErrNotFound) {
			j.worker.agent.observer.refresh()
			break
		}
		wait(ctx, time.Second)
		if ctx.Err() != nil {
			return false
		}
	}
	return j.worker.agent.observer.awaitExit(ctx, j.worker.uid, j.id)
}

func (j *stopJob) awaitExit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	j.worker.agent.observer.refresh()
	if !j.worker.agent.observer.awaitExit(ctx, j.worker.uid, j.id) {
		return fmt.Errorf("container %s still there %v after it was killed", j.id, killWait)
	}
	return nil
}

func (j *stopJob) hasPreStop() bool {
	if j.pod == nil {
		return false
	}
	lifecycle := containerNamed(j.pod, j.container).Lifecycle
	return lifecycle != nil && lifecycle.PreStop != nil
}

func (j *stopJob) preStop(ctx context.Context) error {
	c := containerNamed(j.pod, j.container)
	return j.worker.hook(ctx, *c.Lifecycle.PreStop, c, j.id, j.podIP)
}

// postStart runs a container's postStart hook beside everything else, and
// reports whether it has one. One that fails kills the container, which its
// restart policy then sees.
func (w *worker) postStart(ctx context.Context, c *corev1.Container, id string) bool {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return false
	}
	pod, podIP := w.pod, w.sandbox.IP.String()
	hookCtx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.hooks[id] = cancel
	w.mu.Unlock()
	w.tasks.Go(func() {
		defer cancel()
		err := w.hook(hookCtx, *c.Lifecycle.PostStart, c, id, podIP)
		if err != nil && hookCtx.Err() == nil {
			w.agent.warn(pod, "FailedPostStartHook", err.Error())
			if err := w.agent.cfg.Runtime.Kill(ctx, id); err != nil && ctx.Err() == nil {
				w.agent.cfg.Logger.Warn("kill after postStart", "pod", nameOf(pod), "container", c.Name, "error", err)
			}
			w.agent.observer.refresh()
		}
		w.mu.Lock()
		delete(w.hooks, id)
		w.mu.Unlock()
		poke(w.awake)
	})
	return true
}

// maxHookOutput is how much of a hook's output goes into its error.
const maxHookOutput = 1024

// maxHookSeconds bounds one hook; a preStop hook also ends with the grace.
const maxHookSeconds = 600

func (w *worker) hook(ctx context.Context, h corev1.LifecycleHandler, c *corev1.Container, id, podIP string) error {
	if h.Sleep != nil {
		wait(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return nil
	}
	def := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}, TimeoutSeconds: maxHookSeconds}
	p, err := probe.Resolve(def, c, podIP)
	if err != nil {
		return err
	}
	result, message := probe.Run(ctx, p, w.execIn(id))
	if result != probe.Success {
		return fmt.Errorf("hook of container %s: %s", c.Name, message)
	}
	return nil
}

// execIn runs a command in a container, for probes and hooks.
func (w *worker) execIn(id string) func(ctx context.Context, command []string) (int, []byte, error) {
	return func(ctx context.Context, command []string) (int, []byte, error) {
		return w.agent.cfg.Runtime.Exec(ctx, id, command, maxHookOutput)
	}
}
