package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Reasons as the kubelet gives them.
const (
	reasonSandbox   = "FailedCreatePodSandBox"
	reasonVolumes   = "FailedMount"
	reasonConfig    = "CreateContainerConfigError"
	reasonStart     = "RunContainerError"
	reasonInspect   = "ImageInspectError"
	reasonPull      = "ErrImagePull"
	reasonPullWait  = "ImagePullBackOff"
	reasonNeverPull = "ErrImageNeverPull"
	reasonBadImage  = "InvalidImageName"
)

// do carries out one action. holds is false when the rest of the decision may
// not be right any more and the pod must be looked at again.
func (w *worker) do(ctx context.Context, action Action, o Observed) (holds bool, err error) {
	switch action.Kind {
	case Prepare:
		return true, w.prepare(ctx)
	case Start:
		return w.start(ctx, action)
	case Stop:
		w.stop(ctx, action, o)
	case Update:
		return true, w.resize(ctx, o)
	case Remove:
		return true, w.remove(ctx, action.ID)
	case Teardown:
		return true, w.teardown(ctx)
	case Report:
		w.reported = true
		if w.agent.bindings.pod(w.uid) != nil {
			w.say(w.pod, o, true)
		}
	}
	return true, nil
}

// fail notes that something went wrong before a container ran, and when to try
// again: 1 s doubling to 5 min, and for images from 10 s on. It returns the
// error, which says nothing if the agent is being stopped.
func (w *worker) fail(ctx context.Context, container, reason string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	f := w.failures[container]
	if f.Tries == 0 {
		f.Since = time.Now()
	}
	f.Tries++
	base := time.Second
	if isImageReason(reason) {
		base = crashBase
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("free space on the node's disk: %w", err)
	}
	f.Reason, f.Message = reason, err.Error()
	f.RetryAt = time.Now().Add(min(crashMax, base<<min(f.Tries-1, 9)))
	w.failures[container] = f
	event := "Failed"
	if container == "" {
		event = reason
	}
	if !w.onItsWay(container, err) {
		w.agent.warn(w.pod, event, err.Error())
	}
	return err
}

// prepare makes sandbox, volumes and files, or finds them again.
func (w *worker) prepare(ctx context.Context) error {
	spec, err := w.agent.machine.networkPod(w.pod)
	if err != nil {
		return w.fail(ctx, "", reasonSandbox, err)
	}
	sandbox, err := w.setUpNetwork(ctx, spec)
	if err != nil {
		return w.fail(ctx, "", reasonSandbox, fmt.Errorf("network: %w", err))
	}
	w.sandbox, w.tornDown = &sandbox, false
	p := prepared{sandbox: sandbox, links: w.agent.linksFor(ctx, w.pod)}
	if p.files, err = w.agent.writeFiles(w.pod, sandbox); err != nil {
		return w.fail(ctx, "", reasonVolumes, err)
	}
	if p.volumes, err = w.prepareVolumes(ctx); err != nil {
		return w.fail(ctx, "", reasonVolumes, fmt.Errorf("volumes: %w", err))
	}
	if p.pidNS, err = w.sharedProcesses(ctx); err != nil {
		return w.fail(ctx, "", reasonSandbox, err)
	}
	w.agent.allocations.keep(w.uid)
	w.prepared = &p
	delete(w.failures, "")
	return nil
}

// setUpNetwork takes its turn, so that the first pods of many start while the
// others still get their networks.
func (w *worker) setUpNetwork(ctx context.Context, spec network.Pod) (network.Sandbox, error) {
	select {
	case <-ctx.Done():
		return network.Sandbox{}, ctx.Err()
	case w.agent.setups <- struct{}{}:
	}
	defer func() { <-w.agent.setups }()
	return w.agent.cfg.Network.Setup(ctx, spec)
}

// start starts a container, or a pull of its image if that has to come first.
// What was decided after it does not hold if it took its turn while the pod
// changed, or if the container's hook comes before the next one.
func (w *worker) start(ctx context.Context, action Action) (holds bool, err error) {
	c := containerNamed(w.pod, action.Container)
	image, ready, err := w.images(ctx, c)
	if err != nil || !ready {
		return true, err
	}
	release, err := w.turnToStart(ctx, c)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer release()
	if w.agent.bindings.pod(w.uid) != w.asked {
		return false, nil
	}
	spec, err := w.agent.machine.containerFor(w.pod, c, action.Attempt, image, *w.prepared, w.agent.refs(), w.subPath)
	spec.Round, spec.Note = action.Round, note{Hook: hasPostStart(c)}.String()
	if err == nil {
		if err := w.joinTarget(ctx, &spec); err != nil {
			return true, w.failTarget(ctx, c.Name, err)
		}
		err = w.addTerminationLog(&spec, c)
	}
	if err == nil {
		err = w.openLog(&spec, c)
	}
	if err != nil {
		return true, w.fail(ctx, c.Name, reasonConfig, err)
	}
	began := time.Now()
	if err := w.agent.cfg.Runtime.Start(ctx, spec); err != nil {
		w.agent.cfg.Logs.Discard(logOf(spec))
		w.agent.observer.refresh()
		return true, w.fail(ctx, c.Name, w.whyNotStarted(spec, err), err)
	}
	w.agent.metrics.starts.Observe(time.Since(began).Seconds())
	delete(w.failures, c.Name)
	w.agent.observer.set(runtime.Status{
		ID: spec.ID, Pod: spec.Pod, Name: c.Name, Attempt: action.Attempt, Round: action.Round, SpecHash: spec.SpecHash, Note: spec.Note,
		Image: image.Ref, ImageID: image.ID, StopSignal: spec.StopSignal, State: runtime.Running, CreatedAt: began, StartedAt: time.Now(),
	})
	w.agent.note(w.pod, "Created", "Created container: "+c.Name)
	w.agent.note(w.pod, "Started", "Started container "+c.Name)
	return !w.postStart(ctx, c, spec.ID), nil
}

func (w *worker) subPath(container, volumePath, subPath string) (string, error) {
	return w.agent.cfg.Volumes.SubPath(w.uid, container, volumePath, subPath)
}

// addTerminationLog mounts the file into which a container may write why it
// ends.
func (w *worker) addTerminationLog(spec *runtime.Container, c *corev1.Container) error {
	if c.TerminationMessagePath == "" {
		return nil
	}
	path, err := w.agent.cfg.Volumes.TerminationLog(w.uid, c.Name, spec.Attempt)
	if err != nil {
		return fmt.Errorf("termination log: %w", err)
	}
	spec.Mounts = append(spec.Mounts, runtime.Mount{Source: path, Destination: c.TerminationMessagePath})
	return nil
}

// containerNamed returns a pod's container, init or ephemeral container; one
// that has nothing but its name if the pod has none of it.
func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	if c := ephemeralNamed(pod, name); c != nil {
		return asContainer(c)
	}
	return &corev1.Container{Name: name}
}

func (w *worker) remove(ctx context.Context, id string) error {
	if err := w.agent.cfg.Runtime.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	delete(w.replaced, id)
	w.agent.observer.forget(w.uid, id)
	return nil
}

// teardown frees address, namespaces, volumes and, when the pod is going, its
// logs.
func (w *worker) teardown(ctx context.Context) error {
	w.endPulls(func(string) bool { return true })
	if err := w.endSharedProcesses(ctx); err != nil {
		return err
	}
	if err := w.agent.cfg.Network.Teardown(ctx, w.uid); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	w.sandbox, w.prepared = nil, nil
	if err := w.letGo(ctx); err != nil {
		return err
	}
	w.tornDown = true
	if bound := w.agent.bindings.pod(w.uid); bound != nil && bound.DeletionTimestamp == nil {
		return nil
	}
	if err := w.agent.cfg.Volumes.Remove(w.uid); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	return w.agent.cfg.Logs.RemovePod(w.uid)
}
