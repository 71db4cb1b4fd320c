package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// logOf names the log of a container that is being started.
func logOf(spec runtime.Container) logs.Container {
	return logs.Container{
		ID: spec.ID, UID: spec.Pod.UID, Namespace: spec.Pod.Namespace, Pod: spec.Pod.Name,
		Name: spec.Name, Attempt: spec.Attempt, TTY: spec.TTY,
	}
}

// openLog says where a container's standard streams lead.
func (w *worker) openLog(spec *runtime.Container, c *corev1.Container) error {
	spec.Stdin, spec.TTY = c.Stdin, c.TTY
	spools, err := w.agent.cfg.Logs.Open(logOf(*spec))
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	spec.Stdout, spec.Stderr = spools.Stdout, spools.Stderr
	return nil
}

// keepLogs sees to it that what running containers write is taken.
func (w *worker) keepLogs(containers []runtime.Status) {
	for _, s := range containers {
		if s.State != runtime.Running {
			continue
		}
		c := logs.Container{ID: s.ID, UID: s.Pod.UID, Namespace: s.Pod.Namespace, Pod: s.Pod.Name, Name: s.Name, Attempt: s.Attempt}
		switch err := w.agent.cfg.Logs.Keep(c, s.PID); {
		case errors.Is(err, logs.ErrNoProcess):
			w.agent.observer.refresh()
		case err != nil:
			w.agent.cfg.Logger.Warn("output of a container not taken", "pod", nameOf(w.pod), "container", s.Name, "error", err)
		}
	}
}

// leftDelay is how long after its outputs were closed the end of a container is
// known.
const leftDelay = 500 * time.Millisecond

// followLogs has those pods looked at of which a container's outputs were
// closed, and that may run on.
func (a *agent) followLogs(ctx context.Context) error {
	for {
		var uids []string
		select {
		case <-ctx.Done():
			return nil
		case uid := <-a.cfg.Logs.Left():
			uids = append(uids, uid)
		}
		wait(ctx, leftDelay)
		for more := true; more; {
			select {
			case uid := <-a.cfg.Logs.Left():
				uids = append(uids, uid)
			default:
				more = false
			}
		}
		a.wake(uids)
	}
}
