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

// stop ends a container beside everything else; the worker is woken when it is
// over. With the agent it ends half-way, and the next one begins again.
func (w *worker) stop(ctx context.Context, action Action, o Observed) {
	w.mu.Lock()
	w.stopping[action.ID] = true
	w.mu.Unlock()
	job := stopJob{worker: w, id: action.ID, grace: w.grace(), pod: w.pod, podIP: o.IP}
	for _, c := range o.Containers {
		if c.ID == action.ID {
			job.container = c.Name
		}
	}
	going := w.pod == nil || w.pod.DeletionTimestamp != nil
	if going && o.Health[action.ID].Ready {
		job.drain = drainDelay
	}
	w.note("Killing", fmt.Sprintf("Stopping container %s: %s", job.container, action.Reason))
	w.probes.forget(action.ID)
	w.tasks.Go(func() {
		err := job.run(ctx)
		if err != nil && ctx.Err() == nil {
			w.agent.cfg.Logger.Warn("pod stop", "pod", w.name(), "uid", w.uid, "container", job.container, "error", err)
			wait(ctx, time.Second)
		}
		w.mu.Lock()
		delete(w.stopping, action.ID)
		w.mu.Unlock()
		w.wake()
	})
}

// grace is how long the pod's containers have between SIGTERM and SIGKILL.
func (w *worker) grace() time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if w.pod != nil {
		if s := w.pod.Spec.TerminationGracePeriodSeconds; s != nil {
			seconds = *s
		}
		if s := w.pod.DeletionGracePeriodSeconds; s != nil {
			seconds = *s
		}
	}
	return time.Duration(seconds) * time.Second
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
	grace     time.Duration
	drain     time.Duration
}

func (j stopJob) run(ctx context.Context) error {
	graceful, cancel := context.WithTimeout(ctx, j.grace)
	defer cancel()
	wait(graceful, j.drain)
	if err := j.preStop(graceful); err != nil {
		j.worker.warn("FailedPreStopHook", err.Error())
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

// terminated sends SIGTERM and reports whether the container ended by it in
// time.
func (j stopJob) terminated(ctx context.Context) bool {
	err := j.worker.agent.cfg.Runtime.Signal(ctx, j.id, int(syscall.SIGTERM))
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return false
	}
	if err != nil {
		j.worker.agent.observer.refresh()
	}
	return j.worker.agent.observer.awaitExit(ctx, j.worker.uid, j.id)
}

func (j stopJob) awaitExit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	j.worker.agent.observer.refresh()
	if !j.worker.agent.observer.awaitExit(ctx, j.worker.uid, j.id) {
		return fmt.Errorf("container %s still there %v after it was killed", j.id, killWait)
	}
	return nil
}

func (j stopJob) preStop(ctx context.Context) error {
	if j.pod == nil {
		return nil
	}
	c := containerNamed(j.pod, j.container)
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return nil
	}
	return j.worker.hook(ctx, *c.Lifecycle.PreStop, c, j.id, j.podIP)
}

// postStart runs a container's postStart hook. One that fails kills the
// container, which its restart policy then sees.
func (w *worker) postStart(ctx context.Context, c *corev1.Container, id string) error {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := w.hook(ctx, *c.Lifecycle.PostStart, c, id, w.said.PodIP)
	if err == nil {
		return nil
	}
	w.warn("FailedPostStartHook", err.Error())
	if err := w.agent.cfg.Runtime.Kill(ctx, id); err != nil {
		return err
	}
	w.agent.observer.refresh()
	return err
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
