package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func isImageReason(reason string) bool {
	return slices.Contains([]string{reasonPull, reasonPullWait, reasonNeverPull, reasonBadImage}, reason)
}

// need is an image that a container cannot start without: its own, or that of
// a volume that it mounts.
type need struct {
	container, image string
	policy           corev1.PullPolicy
}

// images returns the local image of a container; ready is false when it, or
// that of a volume, is being pulled, of which the worker is woken.
func (w *worker) images(ctx context.Context, c *corev1.Container) (image runtime.Image, ready bool, err error) {
	if image, ready, err = w.image(ctx, need{c.Name, c.Image, c.ImagePullPolicy}); err != nil || !ready {
		return image, false, err
	}
	if ready, err = w.mountImages(ctx, c); err != nil || !ready {
		return image, false, err
	}
	maps.DeleteFunc(w.fresh, func(n need, _ bool) bool { return n.container == c.Name })
	return image, true, nil
}

// image returns an image that is needed.
func (w *worker) image(ctx context.Context, n need) (image runtime.Image, ready bool, err error) {
	image, err = w.agent.cfg.Runtime.Image(ctx, n.image)
	present := err == nil
	switch {
	case errors.Is(err, runtime.ErrInvalidImage):
		return image, false, w.fail(ctx, n.container, reasonBadImage, err)
	case !present && !errors.Is(err, runtime.ErrImageNotFound):
		return image, false, w.fail(ctx, n.container, reasonInspect, err)
	}
	fresh := w.fresh[n]
	question := images.Question{Policy: n.policy, Present: present, Fresh: fresh, Allowed: image.Access.Anybody}
	if present && !image.Access.Anybody {
		question.Allowed = images.Allowed(w.credentials(n.image), image.Access.Keys)
	}
	switch answer := images.Decide(question); {
	case answer == images.Use:
		w.backoff.Forget(n.image)
		if !fresh {
			w.agent.note(w.pod, "Pulled", fmt.Sprintf("Container image %q already present on machine", n.image))
		}
		return image, true, nil
	case !present && !w.agent.imagesLoaded():
		w.awaitLoaded(ctx, n)
		return image, false, nil
	case answer == images.Refuse:
		err := fmt.Errorf("image %s is not on the node and its pull policy is Never: load it, or change the policy: %w", n.image, runtime.ErrImageNotFound)
		return image, false, w.fail(ctx, n.container, reasonNeverPull, err)
	case fresh:
		delete(w.fresh, n)
		return image, false, w.fail(ctx, n.container, reasonPull, fmt.Errorf("image %s was pulled and is gone again: %w", n.image, runtime.ErrImageNotFound))
	}
	if until, why, waits := w.backoff.Wait(n.image, time.Now()); waits {
		w.backOff(n, until, why)
		return image, false, nil
	}
	w.pull(ctx, n)
	return image, false, nil
}

// credentials are those that the pod's secrets have for an image. Secrets that
// are not there or cannot be read are said to be so.
func (w *worker) credentials(image string) []images.Credential {
	var secrets []*corev1.Secret
	var missing []string
	for _, ref := range w.pod.Spec.ImagePullSecrets {
		if s, ok := w.agent.bindings.Secret(w.pod.Namespace, ref.Name); ok {
			secrets = append(secrets, s)
		} else {
			missing = append(missing, ref.Name)
		}
	}
	found, err := images.Credentials(image, secrets)
	if len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("there is no secret %s in namespace %s", strings.Join(missing, ", "), w.pod.Namespace))
	}
	if err != nil {
		w.agent.warn(w.pod, "FailedToRetrieveImagePullSecret", fmt.Sprintf("Pulling image %q may not succeed: %v", image, err))
	}
	return found
}

// backOff leaves an image alone that could not be pulled.
func (w *worker) backOff(n need, until time.Time, why error) {
	message := fmt.Sprintf("Back-off pulling image %q", n.image)
	w.agent.note(w.pod, "BackOff", message)
	w.failures[n.container] = Failure{
		Reason: reasonPullWait, Message: fmt.Sprintf("%s: %s: %v", message, reasonPull, why), Tries: w.failures[n.container].Tries, RetryAt: until,
	}
}

// pulling is an image on its way to a container.
type pulling struct {
	need
	cancel   context.CancelFunc
	asked    time.Time
	began    time.Time // when it had waited for others
	progress runtime.Progress
	alarm    *time.Timer // wakes the worker to tell how far it is, or nil
	loading  bool        // waits for what the node loads
}

// progressEvery is how often a pull's progress is told.
const progressEvery = 2 * time.Second

// words say how far a pull is.
func (p *pulling) words() string {
	switch {
	case p.loading:
		return "Waiting: the node is loading its images"
	case p.progress.Queued:
		return "Pulling: waits for other pulls"
	case p.progress.Total == 0:
		return "Pulling"
	}
	return fmt.Sprintf("Pulling %d %%", p.progress.Done*100/p.progress.Total)
}

// pulled is what came of a pull.
type pulled struct {
	pull  *pulling
	image runtime.Image
	err   error
	ended time.Time
}

// pull fetches an image beside everything else and wakes the worker.
func (w *worker) pull(ctx context.Context, n need) {
	ctx, cancel := context.WithCancel(ctx)
	w.agent.note(w.pod, "Pulling", fmt.Sprintf("Pulling image %q", n.image))
	now := time.Now()
	p := &pulling{need: n, cancel: cancel, asked: now, began: now}
	options := runtime.PullOptions{Progress: func(progress runtime.Progress) { w.progress(p, progress) }}
	for _, credential := range w.credentials(n.image) {
		options.Credentials = append(options.Credentials, runtime.Credential{
			Username: credential.Username, Password: credential.Password, Keys: credential.Keys(),
		})
	}
	w.mu.Lock()
	w.pulls[n.container] = p
	w.mu.Unlock()
	w.tasks.Go(func() {
		defer cancel()
		image, err := w.agent.cfg.Runtime.Pull(ctx, p.image, options)
		now := time.Now()
		w.agent.metrics.pulls.Observe(now.Sub(p.asked).Seconds())
		w.mu.Lock()
		if p.alarm != nil {
			p.alarm.Stop()
		}
		delete(w.pulls, n.container)
		if ctx.Err() == nil {
			w.pulled[n.container] = pulled{pull: p, image: image, err: err, ended: now}
		}
		w.mu.Unlock()
		poke(w.awake)
	})
}

func (a *agent) imagesLoaded() bool { return a.cfg.ImagesLoaded == nil || isClosed(a.cfg.ImagesLoaded) }

// awaitLoaded wakes the worker when the node's own images are loaded: the one
// that is needed may be among them.
func (w *worker) awaitLoaded(ctx context.Context, n need) {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.pulls[n.container] = &pulling{need: n, cancel: cancel, loading: true}
	w.mu.Unlock()
	w.tasks.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-w.agent.cfg.ImagesLoaded:
		}
		w.mu.Lock()
		delete(w.pulls, n.container)
		w.mu.Unlock()
		poke(w.awake)
	})
}

// progress takes in how far a pull is, and wakes the worker from time to time
// to tell it.
func (w *worker) progress(p *pulling, progress runtime.Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.progress.Queued && !progress.Queued {
		p.began = time.Now()
	}
	p.progress = progress
	if p.alarm == nil {
		p.alarm = time.AfterFunc(progressEvery, func() {
			w.mu.Lock()
			p.alarm = nil
			w.mu.Unlock()
			poke(w.awake)
		})
	}
}

// pullingLocked says of each container whose image is on the way how far it is.
func (w *worker) pullingLocked() map[string]string {
	out := make(map[string]string, len(w.pulls))
	for name, p := range w.pulls {
		out[name] = p.words()
	}
	return out
}

// endPulls ends the pulls of some containers. They are over when they are no
// longer among the pulls.
func (w *worker) endPulls(needless func(container string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.pulls {
		if needless(name) {
			p.cancel()
		}
	}
}

// endNeedlessPulls ends pulls of images that have come another way.
func (w *worker) endNeedlessPulls(ctx context.Context) {
	w.mu.Lock()
	under := make([]need, 0, len(w.pulls))
	for _, p := range w.pulls {
		under = append(under, p.need)
	}
	w.mu.Unlock()
	for _, n := range under {
		if n.policy == corev1.PullAlways {
			continue
		}
		if _, err := w.agent.cfg.Runtime.Image(ctx, n.image); err == nil {
			w.endPulls(func(container string) bool { return container == n.container })
		}
	}
}

// pullErrorShown is how long a failed pull is reported as such, before it is
// reported to be left alone for a while.
const pullErrorShown = 2 * time.Second

// takePulled notes what came of pulls.
func (w *worker) takePulled() {
	w.mu.Lock()
	results := w.pulled
	w.pulled = map[string]pulled{}
	w.mu.Unlock()
	for name, r := range results {
		if r.err == nil {
			delete(w.failures, name)
			w.fresh[r.pull.need] = true
			w.agent.note(w.pod, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
				r.pull.image, r.ended.Sub(r.pull.began).Truncate(time.Millisecond), r.ended.Sub(r.pull.asked).Truncate(time.Millisecond), r.image.Size))
			continue
		}
		w.backoff.Failed(r.pull.image, r.err, r.ended)
		w.agent.warn(w.pod, "Failed", fmt.Sprintf("Failed to pull image %q: %v", r.pull.image, r.err))
		w.failures[name] = Failure{Reason: reasonPull, Message: r.err.Error(), Tries: w.failures[name].Tries + 1, RetryAt: r.ended.Add(pullErrorShown)}
	}
}
