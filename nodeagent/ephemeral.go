package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Ephemeral containers are added to a pod that is there, to look into it
// (Kubernetes: "Ephemeral Containers"). Each is started once and never again,
// nothing waits for it, and what becomes of it says nothing of its pod, with
// which it ends.

const (
	// reasonTarget is of an ephemeral container whose target does not run.
	reasonTarget = "CreateContainerError"
	// reasonRefused is of one that the OCI runtime refused. That was its start.
	reasonRefused = "StartError"
)

// errNoTarget is retried when it is no longer so, however often it was.
var errNoTarget = errors.New("it does not run, and the ephemeral container is started when it does")

// targetWait bounds how long it may take to learn which process a target is.
const targetWait = 5 * time.Second

// lostContainer is what the kubelet says of a container that ran and of which
// the runtime knows nothing any more.
const (
	lostReason   = "ContainerStatusUnknown"
	lostMessage  = "The container could not be located when the pod was terminated"
	lostExitCode = 137
)

// refusedExitCode is that of a container that could not be started, as
// containerd's CRI gives it.
const refusedExitCode = 128

// ephemeralNamed returns a pod's ephemeral container of that name, or nil.
func ephemeralNamed(pod *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return &pod.Spec.EphemeralContainers[i]
		}
	}
	return nil
}

// asContainer is what an ephemeral container has in common with the others.
func asContainer(c *corev1.EphemeralContainer) *corev1.Container {
	return (*corev1.Container)(&c.EphemeralContainerCommon)
}

// partEphemeral parts a pod's ephemeral containers from the others. It reuses
// the list.
func partEphemeral(pod *corev1.Pod, containers []runtime.Status) (others, ephemeral []runtime.Status) {
	if pod == nil || len(pod.Spec.EphemeralContainers) == 0 {
		return containers, nil
	}
	others = slices.DeleteFunc(containers, func(c runtime.Status) bool {
		is := ephemeralNamed(pod, c.Name) != nil
		if is {
			ephemeral = append(ephemeral, c)
		}
		return is
	})
	return others, ephemeral
}

// begun says which ephemeral containers are known to have been started, from
// what was said of them.
func begun(said []corev1.ContainerStatus) map[string]bool {
	var out map[string]bool
	for i := range said {
		if said[i].State.Running != nil || said[i].State.Terminated != nil {
			if out == nil {
				out = map[string]bool{}
			}
			out[said[i].Name] = true
		}
	}
	return out
}

// startEphemeral starts the ephemeral containers that never were. One that is
// to look into a container that does not run is tried once, which says so, and
// again when that one does.
func (d *Decision) startEphemeral(pod *corev1.Pod, o Observed, now time.Time) {
	if len(pod.Spec.EphemeralContainers) == 0 {
		return
	}
	here := o
	here.Containers = o.Ephemeral
	s := starter{Decision: d, pod: pod, all: here, Observed: here, now: now}
	for i := range pod.Spec.EphemeralContainers {
		c := &pod.Spec.EphemeralContainers[i]
		last := latest(here, c.Name)
		switch {
		case last != nil && last.State == runtime.Created:
			d.Actions = append(d.Actions, Action{Kind: Remove, ID: last.ID})
		case last != nil || o.Begun[c.Name] || o.Failures[c.Name].Reason == reasonRefused:
		case o.Failures[c.Name].Reason == reasonTarget && !runs(o, c.TargetContainerName):
		default:
			s.start(c.Name, time.Time{})
		}
	}
}

func runs(o Observed, name string) bool {
	last := latest(o, name)
	return last != nil && last.State == runtime.Running
}

// stopEphemeral stops all of a pod's ephemeral containers, whatever the order
// of the others.
func (d *Decision) stopEphemeral(o Observed, reason string) {
	for i := range o.Ephemeral {
		if c := &o.Ephemeral[i]; isUp(c) && !o.Stopping[c.ID] {
			d.Actions = append(d.Actions, Action{Kind: Stop, ID: c.ID, Reason: reason})
		}
	}
}

// ephemeral is the status of an ephemeral container.
func (v *view) ephemeral(c *corev1.Container) corev1.ContainerStatus {
	before := statusNamed(v.before.EphemeralContainerStatuses, c.Name)
	here := v.Observed
	here.Containers = v.Ephemeral
	last := latest(here, c.Name)
	if last == nil && v.Begun[c.Name] && before != nil {
		return lost(*before)
	}
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, VolumeMounts: mountStatuses(c, before)}
	if last != nil {
		s.ContainerID, s.ImageID = "containerd://"+last.ID, last.ImageID
	}
	f, failed := v.Failures[c.Name]
	switch {
	case last != nil && last.State == runtime.Exited:
		s.State = v.terminated(last)
	case last != nil && isUp(last):
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: *stamp(last.StartedAt)}
	case failed && f.Reason == reasonRefused:
		s.State.Terminated = &corev1.ContainerStateTerminated{
			Reason: f.Reason, Message: f.Message, ExitCode: refusedExitCode, StartedAt: *stamp(f.Since), FinishedAt: *stamp(f.Since),
		}
	case failed && !v.ending:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: f.Reason, Message: f.Message}
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: v.waiting, Message: v.waitingFor(c)}
	}
	return s
}

// lost is the status of a container of which nothing but that is left.
func lost(before corev1.ContainerStatus) corev1.ContainerStatus {
	if ran := before.State.Running; ran != nil {
		before.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: lostReason, Message: lostMessage, ExitCode: lostExitCode, StartedAt: ran.StartedAt, ContainerID: before.ContainerID,
		}}
	}
	return before
}

// joinTarget puts an ephemeral container into the process namespace of the
// container that it is to look into, if that has one to itself. Of one that
// was started anew it is the new one's.
func (w *worker) joinTarget(ctx context.Context, spec *runtime.Container) error {
	c := ephemeralNamed(w.pod, spec.Name)
	if c == nil || c.TargetContainerName == "" || spec.Namespaces.PID != "" || spec.Namespaces.HostPID {
		return nil
	}
	containers, _ := w.agent.observer.containers(w.uid)
	target := latest(Observed{Containers: containers}, c.TargetContainerName)
	if target == nil || target.State != runtime.Running {
		return fmt.Errorf("container %s: %w", c.TargetContainerName, errNoTarget)
	}
	bounded, cancel := context.WithTimeout(ctx, targetWait)
	defer cancel()
	pid, err := w.agent.observer.process(bounded, w.uid, target.ID)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.TargetContainerName, err)
	}
	spec.Namespaces.PID = processNamespace(pid)
	return nil
}

// whyNotStarted is the reason that is given for a start that went wrong. An
// ephemeral container has one start, unless its target went meanwhile.
func (w *worker) whyNotStarted(spec runtime.Container, err error) string {
	switch {
	case errors.Is(err, runtime.ErrConfig):
		return reasonConfig
	case !errors.Is(err, runtime.ErrStart) || ephemeralNamed(w.pod, spec.Name) == nil:
		return reasonStart
	}
	if namespace := spec.Namespaces.PID; namespace != "" {
		if _, err := os.Stat(namespace); err != nil {
			return reasonStart
		}
	}
	return reasonRefused
}

// failTarget notes why an ephemeral container could not join its target.
func (w *worker) failTarget(ctx context.Context, name string, err error) error {
	err = w.fail(ctx, name, reasonTarget, fmt.Errorf("target %w", err))
	if f, noted := w.failures[name]; noted && errors.Is(err, errNoTarget) {
		f.RetryAt = time.Time{}
		w.failures[name] = f
	}
	return err
}
