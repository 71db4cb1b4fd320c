package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

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
// over. With the agent it ends half-way, and the next one goes on with what is
// left of the container's time.
func (w *worker) stop(ctx context.Context, action Action, o Observed) {
	job := w.newStop(action, o, time.Now())
	going := w.going()
	if going && job.first && o.Health[action.ID].Ready {
		job.drain = drainDelay
	}
	if action.Replace {
		w.replaced[action.ID] = true
	}
	job.note = note{Since: job.began, Grace: action.Grace, Replace: action.Replace, Resize: action.Resize}
	if !going {
		job.note.Doom = w.doom
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
	var noted note
	for _, c := range o.all() {
		if c.ID == action.ID {
			job.container, noted = c.Name, noteOf(&c)
			if c.StopSignal != 0 {
				job.signal = c.StopSignal
			}
		}
	}
	switch {
	case w.going() || finishing(w.pod, o, now) != "":
		if w.ending.IsZero() {
			w.ending = endingSince(o, now)
		}
		job.first = sidecarPlace(w.pod, job.container) < 0
		job.began = w.ending
	case action.Grace != nil:
		job.grace = time.Duration(*action.Grace) * time.Second
	}
	if action.Replace && noted.Replace && noted.Since.Before(job.began) {
		job.began = noted.Since
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
	note      note
}

func (j *stopJob) run(ctx context.Context) error {
	graceful, cancel := j.graceful(ctx)
	defer cancel()
	defer j.leaveNote(ctx)()
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

// noteLate is how long a stop may take before it is noted when it began. Most
// are over by then, and cost no write.
const noteLate = time.Second

// leaveNote notes, before the container can hear of it, what could not be told
// from the pod: that the container is to be replaced, or why its pod must fail.
// Of all else it notes when it began, once it takes its time; the returned
// function says that it is over.
func (j *stopJob) leaveNote(ctx context.Context) (over func()) {
	ctx, over = context.WithCancel(ctx)
	leave := func() {
		if err := j.worker.leave(ctx, j.id, j.note); err != nil && ctx.Err() == nil && !errors.Is(err, runtime.ErrNotFound) {
			j.worker.agent.cfg.Logger.Warn("stop not noted", "uid", j.worker.uid, "container", j.container, "error", err)
		}
	}
	if j.note.Replace || j.note.Doom != nil || j.hasPreStop() {
		leave()
		return over
	}
	j.worker.tasks.Go(func() {
		if wait(ctx, noteLate); ctx.Err() == nil {
			leave()
		}
	})
	return over
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

// terminated sends the signal to end, SIGTERM or the container's own, and
// reports whether the container ended by it in time. A signal that cannot be
// sent is sent again.
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
