package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// outcome is the end of a transaction. err ends the scheduler.
type outcome struct {
	refused   []refusal // bindings; all others were made
	unwritten []Failure // reasons
	err       error
}

// refusal is a binding that will not be made as it was meant.
type refusal struct {
	Binding
	nodeGone bool
	never    bool // it would be refused again
	reason   string
}

// bind binds until every pod is bound or refused. A transaction that may or
// may not have happened is tried again as it is: if it did happen, its guards
// refuse it, and the mirror tells.
func (l *loop) bind(ctx context.Context, left []Binding) (done outcome) {
	wait := 50 * time.Millisecond
	for len(left) > 0 && ctx.Err() == nil {
		batch := left
		began := time.Now()
		err := l.commit(ctx, batch)
		for errors.Is(err, registry.ErrTooLarge) && len(batch) > 1 {
			batch = batch[:len(batch)/2]
			err = l.commit(ctx, batch)
		}
		var refused *registry.BindError
		switch {
		case err == nil:
			l.metrics.bind.Observe(time.Since(began).Seconds())
			l.bound(batch)
			left = left[len(batch):]
		case errors.Is(err, registry.ErrFenced):
			done.err = fmt.Errorf("bind: %w", err)
			return done
		case errors.As(err, &refused):
			l.metrics.refused.Inc()
			var out []refusal
			out, left = refuse(left, refused)
			done.refused = append(done.refused, out...)
		case errors.Is(err, registry.ErrTooLarge):
			done.refused = append(done.refused, refusal{Binding: batch[0], never: true, reason: err.Error()})
			left = left[1:]
		default:
			l.cfg.Logger.Warn("binding waits for the store", "pods", len(left), "error", err)
			wait = pause(ctx, wait)
		}
	}
	return done
}

func (l *loop) commit(ctx context.Context, batch []Binding) error {
	writes := make([]registry.Write, len(batch))
	for i, b := range batch {
		writes[i] = registry.Write{Bind: &registry.Binding{Pod: b.Pod, Node: b.Node}}
	}
	_, _, err := l.cfg.Registries.Commit(ctx, writes)
	return err
}

func (l *loop) bound(batch []Binding) {
	l.metrics.bindings.Add(float64(len(batch)))
	for _, b := range batch {
		key := schema.KeyOf(b.Pod)
		l.cfg.Logger.Debug("bound", "key", key, "node", b.Node)
		l.cfg.Recorder.Event(b.Pod, corev1.EventTypeNormal, "Scheduled",
			fmt.Sprintf("Successfully assigned %s/%s to %s", key.Namespace, key.Name, b.Node))
	}
}

// refuse splits off what an error concerns: one pod, or all that were meant
// for a node that is gone.
func refuse(batch []Binding, err *registry.BindError) (out []refusal, left []Binding) {
	nodeGone := isNodeGone(err.Err)
	never := !nodeGone && !apierrors.IsConflict(err.Err) && !apierrors.IsNotFound(err.Err)
	for _, b := range batch {
		if schema.KeyOf(b.Pod) == err.Key || nodeGone && b.Node == err.Node {
			out = append(out, refusal{Binding: b, nodeGone: nodeGone, never: never, reason: err.Error()})
		} else {
			left = append(left, b)
		}
	}
	return out, left
}

func isNodeGone(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == schema.Nodes.Resource
}

// writeReasons sets the condition PodScheduled=False. Where a pod has changed
// since, nothing is written: the change comes back here by itself.
func (l *loop) writeReasons(ctx context.Context, batch []Failure) (done outcome) {
	err := l.commitReasons(ctx, batch)
	if err == nil {
		return done
	}
	for _, f := range batch { // one of them was refused: each for itself
		if errors.Is(err, registry.ErrFenced) {
			return outcome{err: fmt.Errorf("write status: %w", err)}
		}
		err = l.commitReasons(ctx, []Failure{f})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			l.cfg.Logger.Warn("reason not written", "key", schema.KeyOf(f.Pod), "error", err)
			done.unwritten = append(done.unwritten, f)
			pause(ctx, time.Second)
		}
	}
	return done
}

func (l *loop) commitReasons(ctx context.Context, batch []Failure) error {
	writes := make([]registry.Write, len(batch))
	for i, f := range batch {
		writes[i] = registry.Write{UpdateStatus: withReason(f, time.Now())}
	}
	_, _, err := l.cfg.Registries.Commit(ctx, writes)
	return err
}

func withReason(f Failure, now time.Time) *corev1.Pod {
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: f.Reason,
		LastTransitionTime: metav1.Time{Time: now.UTC().Truncate(time.Second)},
	}
	pod := *f.Pod
	pod.Status.Conditions = slices.Clone(pod.Status.Conditions)
	for i, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			if c.Status == condition.Status {
				condition.LastTransitionTime = c.LastTransitionTime
			}
			pod.Status.Conditions[i] = condition
			return &pod
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
	return &pod
}

// pause waits and returns how long to wait the next time.
func pause(ctx context.Context, d time.Duration) time.Duration {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return min(2*d, 5*time.Second)
}
