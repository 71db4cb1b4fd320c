package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Reasons as the kubelet gives them.
const (
	reasonSandbox   = "FailedCreatePodSandBox"
	reasonConfig    = "CreateContainerConfigError"
	reasonStart     = "RunContainerError"
	reasonPull      = "ErrImagePull"
	reasonPullWait  = "ImagePullBackOff"
	reasonNeverPull = "ErrImageNeverPull"
	reasonBadImage  = "InvalidImageName"
)

func isImageReason(reason string) bool {
	return slices.Contains([]string{reasonPull, reasonPullWait, reasonNeverPull, reasonBadImage}, reason)
}

// do carries out one action. It reports false when the rest of the decision no
// longer holds and the pod must be looked at again.
func (w *worker) do(ctx context.Context, action Action, o Observed) bool {
	var err error
	switch action.Kind {
	case Prepare:
		err = w.prepare(ctx)
		w.fail("", reasonSandbox, err)
	case Start:
		err = w.start(ctx, action)
	case Stop:
		w.stop(ctx, action, o)
	case Remove:
		err = w.remove(ctx, action.ID)
	case Teardown:
		err = w.teardown(ctx)
	case Report:
		w.reported = true
		w.say(w.agent.bindings.pod(w.uid), o, true)
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err() == nil
	}
	w.agent.cfg.Logger.Warn("pod "+string(action.Kind), "pod", w.name(), "uid", w.uid, "container", action.Container, "error", err)
	if action.Kind == Remove || action.Kind == Teardown {
		wait(ctx, time.Second)
	}
	return false
}

func (w *worker) name() string {
	if w.pod == nil {
		return ""
	}
	return w.pod.Namespace + "/" + w.pod.Name
}

// fail notes that something went wrong before a container ran, and when to try
// again: 1 s doubling to 5 min, and for images from 10 s on. A nil error
// forgets it.
func (w *worker) fail(container, reason string, err error) {
	if err == nil {
		delete(w.failures, container)
		return
	}
	f := w.failures[container]
	f.Tries++
	base := time.Second
	if isImageReason(reason) {
		base = crashBase
	}
	f.Reason, f.Message = reason, err.Error()
	f.RetryAt = time.Now().Add(min(crashMax, base<<min(f.Tries-1, 9)))
	w.failures[container] = f
	event := "Failed"
	if container == "" {
		event = reason
	}
	w.warn(event, err.Error())
}

// prepare makes sandbox, volumes and files, or finds them again.
func (w *worker) prepare(ctx context.Context) error {
	spec, err := networkPod(w.pod)
	if err != nil {
		return err
	}
	sandbox, err := w.agent.cfg.Network.Setup(ctx, spec)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	volumes, err := w.agent.cfg.Volumes.Prepare(ctx, w.pod, w.agent.bindings)
	if err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	files, err := w.agent.writeFiles(w.pod, sandbox)
	if err != nil {
		return err
	}
	w.prepared = &prepared{sandbox: sandbox, volumes: volumes, files: files}
	w.tornDown = false
	return nil
}

// start starts a container, or a pull of its image if that has to come first.
func (w *worker) start(ctx context.Context, action Action) error {
	c := containerNamed(w.pod, action.Container)
	image, ready, err := w.image(ctx, c)
	if err != nil || !ready {
		return err
	}
	spec, err := w.agent.machine.containerFor(w.pod, c, action.Attempt, image, *w.prepared, w.agent.bindings, w.subPath)
	if err == nil {
		err = w.addTerminationLog(&spec, c)
	}
	if err != nil {
		w.fail(c.Name, reasonConfig, err)
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.agent.slots <- struct{}{}:
	}
	began := time.Now()
	err = w.agent.cfg.Runtime.Start(ctx, spec)
	<-w.agent.slots
	if err != nil {
		if ctx.Err() == nil {
			w.fail(c.Name, reasonStart, err)
			w.agent.observer.refresh()
		}
		return err
	}
	w.agent.metrics.starts.Observe(time.Since(began).Seconds())
	w.fail(c.Name, "", nil)
	w.agent.observer.set(runtime.Status{
		ID: spec.ID, Pod: spec.Pod, Name: c.Name, Attempt: action.Attempt, SpecHash: spec.SpecHash,
		Image: image.Ref, ImageID: image.ID, State: runtime.Running, CreatedAt: began, StartedAt: time.Now(),
	})
	w.agent.observer.refresh()
	w.note("Started", "Started container "+c.Name)
	return w.postStart(ctx, c, spec.ID)
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

func containerNamed(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return &corev1.Container{Name: name}
}

// image returns the local image of a container; ready is false when it is
// being pulled, of which the worker is woken.
func (w *worker) image(ctx context.Context, c *corev1.Container) (image runtime.Image, ready bool, err error) {
	image, err = w.agent.cfg.Runtime.Image(ctx, c.Image)
	switch {
	case errors.Is(err, runtime.ErrInvalidImage):
		w.fail(c.Name, reasonBadImage, err)
		return image, false, err
	case err != nil && !errors.Is(err, runtime.ErrImageNotFound):
		w.fail(c.Name, reasonPull, err)
		return image, false, err
	}
	present := err == nil
	if !present && c.ImagePullPolicy == corev1.PullNever {
		err = fmt.Errorf("image %s is not on the node and its pull policy is Never: load it, or change the policy: %w", c.Image, err)
		w.fail(c.Name, reasonNeverPull, err)
		return image, false, err
	}
	if present && (c.ImagePullPolicy != corev1.PullAlways || w.fresh[c.Name]) {
		delete(w.fresh, c.Name)
		return image, true, nil
	}
	w.pull(ctx, c)
	return image, false, nil
}

// pull fetches an image beside everything else and wakes the worker.
func (w *worker) pull(ctx context.Context, c *corev1.Container) {
	ctx, cancel := context.WithCancel(ctx)
	w.note("Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	w.mu.Lock()
	w.pulling[c.Name] = true
	before := w.cancel
	w.cancel = func() { before(); cancel() }
	w.mu.Unlock()
	name, ref := c.Name, c.Image
	w.tasks.Go(func() {
		defer cancel()
		began := time.Now()
		_, err := w.agent.cfg.Runtime.Pull(ctx, ref)
		w.agent.metrics.pulls.Observe(time.Since(began).Seconds())
		w.mu.Lock()
		delete(w.pulling, name)
		if ctx.Err() == nil {
			w.pulled[name] = err
		}
		w.mu.Unlock()
		w.wake()
	})
}

// took notes what came of a pull.
func (w *worker) took(container string, err error) {
	if err == nil {
		w.fail(container, "", nil)
		w.fresh[container] = true
		w.note("Pulled", "Successfully pulled image of container "+container)
		return
	}
	reason := reasonPull
	if w.failures[container].Tries > 0 {
		reason = reasonPullWait
	}
	w.fail(container, reason, err)
}

func (w *worker) remove(ctx context.Context, id string) error {
	if err := w.agent.cfg.Runtime.Remove(ctx, id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	w.agent.observer.forget(w.uid, id)
	return nil
}

// teardown frees address, namespaces, volumes and, when the pod is going, its
// logs.
func (w *worker) teardown(ctx context.Context) error {
	w.mu.Lock()
	w.cancel()
	w.cancel = func() {}
	w.mu.Unlock()
	if err := w.agent.cfg.Network.Teardown(ctx, w.uid); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	w.prepared, w.tornDown = nil, true
	if bound := w.agent.bindings.pod(w.uid); bound != nil && bound.DeletionTimestamp == nil {
		return nil
	}
	if err := w.agent.cfg.Volumes.Remove(w.uid); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	return removeLogs(w.agent.cfg.LogDir, w.uid)
}

// removeLogs removes the log directories of a pod, known by its UID alone.
func removeLogs(dir, uid string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_"+uid) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("logs: %w", err)
			}
		}
	}
	return nil
}
