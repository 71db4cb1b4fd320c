package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// A pod whose containers share one process namespace has a container of the
// runtime's own that holds it (runtime.PodInit). It is no container of the
// pod's: Step and Status do not hear of it.

func sharesProcesses(pod *corev1.Pod) bool {
	return pod != nil && isTrue(pod.Spec.ShareProcessNamespace)
}

// takeInit takes the holder of the process namespace from a pod's containers.
// When it has ended, so has everything in its namespace, and the pod is to be
// prepared anew.
func (w *worker) takeInit(containers []runtime.Status) []runtime.Status {
	up := false
	rest := slices.DeleteFunc(containers, func(c runtime.Status) bool {
		up = up || c.Name == runtime.PodInit && isUp(&c)
		return c.Name == runtime.PodInit
	})
	if !up && w.prepared != nil && w.prepared.pidNS != "" {
		w.prepared = nil
	}
	return rest
}

// sharedProcesses returns the path of the namespace that a pod's containers
// share, or "", and makes it if it is not there.
func (w *worker) sharedProcesses(ctx context.Context) (path string, err error) {
	if !sharesProcesses(w.pod) {
		return "", nil
	}
	attempt := 0
	containers, _ := w.agent.observer.containers(w.uid)
	for _, c := range containers {
		if c.Name != runtime.PodInit {
			continue
		}
		if c.State == runtime.Running && c.PID != 0 {
			return processNamespace(c.PID), nil
		}
		if err := w.remove(ctx, c.ID); err != nil {
			return "", err
		}
		attempt = max(attempt, c.Attempt+1)
	}
	spec := runtime.Container{
		ID: fmt.Sprintf("%s-init-%d", w.pod.UID, attempt), Name: runtime.PodInit, Attempt: attempt,
		Pod:          runtime.PodRef{UID: string(w.pod.UID), Namespace: w.pod.Namespace, Name: w.pod.Name},
		Namespaces:   namespacesOf(w.pod, prepared{sandbox: *w.sandbox}),
		CgroupParent: w.agent.machine.podCgroup(w.uid), PodResources: w.agent.machine.podResources(w.pod),
	}
	pid, err := w.agent.cfg.Runtime.StartInit(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("shared process namespace: %w", err)
	}
	now := time.Now()
	w.agent.observer.set(runtime.Status{
		ID: spec.ID, Pod: spec.Pod, Name: spec.Name, Attempt: attempt, State: runtime.Running, PID: pid, CreatedAt: now, StartedAt: now,
	})
	return processNamespace(pid), nil
}

func processNamespace(pid int) string { return fmt.Sprintf("/proc/%d/ns/pid", pid) }

// process blocks until it is known which process a container is. One that this
// process of the agent has just started is known by its first list.
func (o *observer) process(ctx context.Context, podUID, id string) (pid int, err error) {
	for asked := false; ; asked = true {
		o.mu.Lock()
		s, known := o.pods[podUID][id]
		moved := o.moved
		o.mu.Unlock()
		switch {
		case !known || s.State != runtime.Running:
			return 0, errors.New("it has just ended")
		case s.PID != 0:
			return s.PID, nil
		case !asked:
			o.refresh()
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("find its process: %w", ctx.Err())
		case <-moved:
		}
	}
}

// endSharedProcesses removes the holder of the process namespace.
func (w *worker) endSharedProcesses(ctx context.Context) error {
	containers, _ := w.agent.observer.containers(w.uid)
	for _, c := range containers {
		if c.Name == runtime.PodInit {
			if err := w.remove(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
