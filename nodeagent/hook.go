package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/probe"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func hasPostStart(c *corev1.Container) bool {
	return c.Lifecycle != nil && c.Lifecycle.PostStart != nil
}

// postStart runs a container's postStart hook beside everything else, and
// reports whether it has one. One that fails kills the container, which its
// restart policy then sees. One that ends with the agent is run again by the
// next: a hook is run at least once (Kubernetes: "Hook delivery guarantees").
func (w *worker) postStart(ctx context.Context, c *corev1.Container, id string) bool {
	if !hasPostStart(c) {
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
		switch {
		case hookCtx.Err() != nil:
		case err != nil:
			w.agent.warn(pod, "FailedPostStartHook", err.Error())
			w.killAfterHook(ctx, c.Name, id)
		default:
			w.noteHookDone(hookCtx, id)
		}
		w.mu.Lock()
		delete(w.hooks, id)
		w.mu.Unlock()
		poke(w.awake)
	})
	return true
}

// killAfterHook returns when the container is known to have ended, or it could
// not be killed.
func (w *worker) killAfterHook(ctx context.Context, name, id string) {
	if err := w.agent.cfg.Runtime.Kill(ctx, id); err != nil {
		if ctx.Err() == nil {
			w.agent.cfg.Logger.Warn("kill after postStart", "uid", w.uid, "container", name, "error", err)
			wait(ctx, time.Second)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	w.agent.observer.refresh()
	w.agent.observer.awaitExit(ctx, w.uid, id)
}

// noteHookDone returns when that is noted, or does not matter any more.
func (w *worker) noteHookDone(ctx context.Context, id string) {
	for ctx.Err() == nil {
		err := w.leave(ctx, id, note{})
		if err == nil || errors.Is(err, runtime.ErrNotFound) {
			return
		}
		wait(ctx, time.Second)
	}
}

// pendingHooks finds the postStart hooks that an earlier process of the agent
// did not bring to their end, and runs them again as soon as the pod is
// prepared.
func (w *worker) pendingHooks(ctx context.Context, o Observed) {
	if w.going() || w.doom != nil {
		return
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != runtime.Running || o.Hooks[c.ID] || o.Stopping[c.ID] || o.Replaced[c.ID] || !noteOf(c).Hook {
			continue
		}
		spec := containerNamed(w.pod, c.Name)
		o.Hooks[c.ID] = w.prepared == nil && hasPostStart(spec) || w.prepared != nil && w.postStart(ctx, spec, c.ID)
	}
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
	if p.HTTP != nil {
		p.HTTP.Hook = true
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
