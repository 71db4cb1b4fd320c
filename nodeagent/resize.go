package nodeagent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Resize is how far a pod is with other resources.
type Resize struct {
	Pending, Message string                                 // why it has not been given what it asks for, "Deferred" or "Infeasible"; or ""
	Actual           map[string]corev1.ResourceRequirements // by name, of containers that have something else than they were given
	Shape            bool                                   // the cgroups are not yet as they should be
	Failure          Failure                                // what last went wrong with that
}

func (r Resize) underway() bool { return len(r.Actual) > 0 || r.Shape }

// resize brings what runs to what it was given: containers that have to be
// started anew for it are stopped first, and all else is then changed in
// place. A container of which it is not known whether it runs is waited for.
func (d *Decision) resize(pod *corev1.Pod, o Observed, now time.Time) {
	if !o.Resize.underway() {
		return
	}
	hold := false
	for _, name := range slices.Sorted(maps.Keys(o.Resize.Actual)) {
		c, last := containerNamed(pod, name), latest(o, name)
		restarts := restartsForResize(c, o.Resize.Actual[name])
		if last == nil || !isUp(last) || last.State == runtime.Running && !restarts {
			continue
		}
		hold = true
		if last.State == runtime.Running && !o.Stopping[last.ID] && !d.stops(last.ID) {
			d.Actions = append(d.Actions, Action{
				Kind: Stop, ID: last.ID, Reason: fmt.Sprintf("container %s resize requires restart", name), Replace: true, Resize: true,
			})
		}
	}
	if hold {
		return
	}
	if wait := o.Resize.Failure.RetryAt.Sub(now); wait > 0 {
		d.lookAgain(wait)
		return
	}
	d.Actions = append(d.Actions, Action{Kind: Update})
}

func (d *Decision) stops(id string) bool {
	return slices.ContainsFunc(d.Actions, func(a Action) bool { return a.Kind == Stop && a.ID == id })
}

// restartsForResize reports whether a container has to be started anew to get
// from what it has to what it was given (Kubernetes: Container.resizePolicy).
func restartsForResize(c *corev1.Container, actual corev1.ResourceRequirements) bool {
	return slices.ContainsFunc(c.ResizePolicy, func(p corev1.ContainerResizePolicy) bool {
		if p.RestartPolicy != corev1.RestartContainer {
			return false
		}
		request, limit := actual.Requests[p.ResourceName], actual.Limits[p.ResourceName]
		return request.Cmp(c.Resources.Requests[p.ResourceName]) != 0 || limit.Cmp(c.Resources.Limits[p.ResourceName]) != 0
	})
}

// resources is what a container has; of one that does not run, what it will
// have.
func (r Resize) resources(c *corev1.Container, last *runtime.Status) *corev1.ResourceRequirements {
	has := c.Resources
	if actual, differs := r.Actual[c.Name]; differs && isUp(last) {
		has = actual
	}
	if len(has.Requests) == 0 && len(has.Limits) == 0 {
		return nil
	}
	return has.DeepCopy()
}

func (r Resize) conditions() (out []corev1.PodCondition) {
	if r.Pending != "" {
		out = append(out, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: r.Pending, Message: r.Message})
	}
	if r.underway() {
		c := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}
		if r.Failure.Message != "" {
			c.Reason, c.Message = corev1.PodReasonError, r.Failure.Message
		}
		out = append(out, c)
	}
	return out
}

// givenResources is the pod as it is bound, with what it has been given.
func (w *worker) givenResources() *corev1.Pod {
	given, began := w.agent.allocations.take(w.asked, w.asked.DeletionTimestamp != nil || terminal(w.said.Phase))
	if began {
		w.agent.retryResizes()
	}
	return given
}

// observedResize forgets of containers that do not run what they had: they
// start with what they have been given.
func (w *worker) observedResize(o Observed) Resize {
	r := w.agent.allocations.state(w.uid)
	var over []string
	for name := range r.Actual {
		if last := latest(o, name); last == nil || !isUp(last) {
			over = append(over, name)
			delete(r.Actual, name)
		}
	}
	if len(over) > 0 {
		w.agent.allocations.have(w.uid, over...)
	}
	r.Failure = w.resizing
	return r
}

// resize gives the cgroups of what runs what the pod was given.
func (w *worker) resize(ctx context.Context, o Observed) error {
	machine := w.agent.machine
	u := runtime.Update{CgroupParent: machine.podCgroup(w.uid), Pod: machine.podResources(w.pod)}
	for _, c := range o.all() {
		if spec := containerNamed(w.pod, c.Name); c.State == runtime.Running && spec.Image != "" {
			u.Containers = append(u.Containers, runtime.ContainerUpdate{ID: c.ID, Name: c.Name, Resources: machine.resourcesOf(w.pod, spec)})
		}
	}
	slices.SortFunc(u.Containers, func(a, b runtime.ContainerUpdate) int { return strings.Compare(a.ID, b.ID) })
	if err := w.agent.cfg.Runtime.Update(ctx, u); err != nil {
		return w.failResize(ctx, err)
	}
	w.resizing = Failure{}
	w.agent.allocations.done(w.uid, w.pod)
	w.agent.note(w.pod, "ResizeCompleted", resizeMessage("Pod resize completed", w.pod, ""))
	return nil
}

// failResize notes why a resize is not through, and when to try again: 1 s
// doubling to 1 min.
func (w *worker) failResize(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	f := &w.resizing
	f.Tries++
	f.Message = err.Error()
	f.RetryAt = time.Now().Add(min(time.Minute, time.Second<<min(f.Tries-1, 6)))
	if f.Tries == 1 {
		w.agent.warn(w.pod, "ResizeError", resizeMessage("Pod resize error", w.pod, f.Message))
	}
	return err
}

// retryResizes wakes the pods that have been given what they waited for.
func (a *agent) retryResizes() { a.wake(a.allocations.retry()) }

// resizeMessage is an event's message as the kubelet words it.
func resizeMessage(what string, pod *corev1.Pod, failure string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	summary := struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation,omitempty"`
		Error          string      `json:"error,omitempty"`
	}{Generation: pod.Generation, Error: failure}
	for i := range pod.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, container{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, container{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	data, err := json.Marshal(summary)
	if err != nil {
		return what
	}
	return what + ": " + string(data)
}

// asked is how much CPU, in thousandths of a core, and memory, in bytes, pods
// ask for.
type asked struct{ cpu, memory int64 }

func (a asked) plus(b asked) asked { return asked{a.cpu + b.cpu, a.memory + b.memory} }

func requestsOf(pod *corev1.Pod) asked {
	a := asked{
		cpu:    total(pod, func(c *corev1.Container) int64 { return c.Resources.Requests.Cpu().MilliValue() }),
		memory: total(pod, func(c *corev1.Container) int64 { return c.Resources.Requests.Memory().Value() }),
	}
	if whole := pod.Spec.Resources; whole != nil {
		if q, set := whole.Requests[corev1.ResourceCPU]; set {
			a.cpu = q.MilliValue()
		}
		if q, set := whole.Requests[corev1.ResourceMemory]; set {
			a.memory = q.Value()
		}
	}
	return a.plus(asked{pod.Spec.Overhead.Cpu().MilliValue(), pod.Spec.Overhead.Memory().Value()})
}
