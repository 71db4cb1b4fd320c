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

func isImageReason(reason string) bool {
	return slices.Contains([]string{reasonPull, reasonPullWait, reasonNeverPull, reasonBadImage}, reason)
}

// image returns the local image of a container; ready is false when it is
// being pulled, of which the worker is woken.
func (w *worker) image(ctx context.Context, c *corev1.Container) (image runtime.Image, ready bool, err error) {
	image, err = w.agent.cfg.Runtime.Image(ctx, c.Image)
	present := err == nil
	switch {
	case errors.Is(err, runtime.ErrInvalidImage):
		return image, false, w.fail(ctx, c.Name, reasonBadImage, err)
	case !present && !errors.Is(err, runtime.ErrImageNotFound):
		return image, false, w.fail(ctx, c.Name, reasonInspect, err)
	case !present && c.ImagePullPolicy == corev1.PullNever:
		err = fmt.Errorf("image %s is not on the node and its pull policy is Never: load it, or change the policy: %w", c.Image, err)
		return image, false, w.fail(ctx, c.Name, reasonNeverPull, err)
	case !present && w.fresh[c.Name]:
		delete(w.fresh, c.Name)
		return image, false, w.fail(ctx, c.Name, reasonPull, fmt.Errorf("image %s was pulled and is gone again: %w", c.Image, err))
	case present && (c.ImagePullPolicy != corev1.PullAlways || w.fresh[c.Name]):
		delete(w.fresh, c.Name)
		return image, true, nil
	}
	w.pull(ctx, c)
	return image, false, nil
}

// pull fetches an image beside everything else and wakes the worker.
func (w *worker) pull(ctx context.Context, c *corev1.Container) {
	ctx, cancel := context.WithCancel(ctx)
	w.agent.note(w.pod, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	w.mu.Lock()
	w.pulls[c.Name] = cancel
	w.mu.Unlock()
	name, ref := c.Name, c.Image
	w.tasks.Go(func() {
		defer cancel()
		began := time.Now()
		_, err := w.agent.cfg.Runtime.Pull(ctx, ref, runtime.PullOptions{})
		w.agent.metrics.pulls.Observe(time.Since(began).Seconds())
		w.mu.Lock()
		delete(w.pulls, name)
		if ctx.Err() == nil {
			w.pulled[name] = err
		}
		w.mu.Unlock()
		poke(w.awake)
	})
}

// endPulls ends the pulls of some containers. They are over when they are no
// longer among the pulls.
func (w *worker) endPulls(needless func(container string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, cancel := range w.pulls {
		if needless(name) {
			cancel()
		}
	}
}

// endNeedlessPulls ends pulls of images that have come another way.
func (w *worker) endNeedlessPulls(ctx context.Context) {
	w.mu.Lock()
	under := names(w.pulls)
	w.mu.Unlock()
	for name := range under {
		c := containerNamed(w.pod, name)
		if c.ImagePullPolicy == corev1.PullAlways {
			continue
		}
		if _, err := w.agent.cfg.Runtime.Image(ctx, c.Image); err == nil {
			w.endPulls(func(n string) bool { return n == name })
		}
	}
}

// takePulled notes what came of pulls.
func (w *worker) takePulled() {
	w.mu.Lock()
	pulled := w.pulled
	w.pulled = map[string]error{}
	w.mu.Unlock()
	for name, err := range pulled {
		if err == nil {
			delete(w.failures, name)
			w.fresh[name] = true
			w.agent.note(w.pod, "Pulled", "Successfully pulled image of container "+name)
			continue
		}
		reason := reasonPull
		if w.failures[name].Tries > 0 {
			reason = reasonPullWait
		}
		_ = w.fail(context.Background(), name, reason, err)
	}
}
