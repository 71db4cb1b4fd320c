package nodeagent

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Observed is what the agent knows of a pod on this machine.
type Observed struct {
	Sandbox    bool               // namespaces and address are there
	Prepared   bool               // so are volumes and files
	IP         string             // pod address
	Containers []runtime.Status   // all attempts that the runtime still has
	Stopping   map[string]bool    // by container ID: being stopped
	Pulling    map[string]bool    // by container name: its image is on the way
	Messages   map[string]string  // by container ID: why it ended, in its own words
	Failures   map[string]Failure // by container name, "" for the pod: what last went wrong before a start
	Crashes    map[string]int     // by container name: exits in a row without a long run between
	Health     map[string]Health  // by container ID, from the probes
	Ended      corev1.PodPhase    // the terminal phase already reported, or ""
}

// Failure is an attempt that led to no container.
type Failure struct {
	Reason, Message string
	Tries           int
	RetryAt         time.Time
}

// Health is what the probes found of one container. A container without a
// probe of some sort is healthy in that respect.
type Health struct {
	Started bool   // the startup probe passed
	Ready   bool   // the readiness probe passes
	Failed  string // why it must be restarted, or ""
}

// ActionKind is one thing that a pod worker can do.
type ActionKind string

// The actions. Stop takes time and is carried out beside the others; the rest
// are done in order.
const (
	Prepare  ActionKind = "prepare"  // sandbox, volumes, files
	Start    ActionKind = "start"    // a container
	Stop     ActionKind = "stop"     // a container, gracefully
	Remove   ActionKind = "remove"   // an exited container
	Teardown ActionKind = "teardown" // sandbox and volumes
	Report   ActionKind = "report"   // that nothing of the pod is left
)

// Action is one step towards what should be.
type Action struct {
	Kind      ActionKind
	Container string // name, of Start
	Attempt   int    // of Start
	ID        string // of Stop and Remove
	Reason    string // of Stop: for the event
}

// Decision is what to do now, and when to look again if nothing happens.
type Decision struct {
	Actions []Action
	Again   time.Duration // 0: only when something changes
}

// Back-off between restarts of a crashing container: none before the first,
// then 10 s doubling to 5 min, and none again after a run of 10 min
// (Kubernetes: Pod Lifecycle, "How Pods handle problems with containers").
const (
	crashBase  = 10 * time.Second
	crashMax   = 5 * time.Minute
	crashReset = 10 * time.Minute
)

// keptAttempts is how many containers of one name stay in the runtime: the
// current one, and the one before for its exit code.
const keptAttempts = 2

// Step decides what brings a pod on this machine closer to what it should be.
// pod is nil when the machine should no longer have it. Pure.
func Step(pod *corev1.Pod, o Observed, now time.Time) Decision {
	switch {
	case pod == nil || pod.DeletionTimestamp != nil:
		return stepDown(o)
	case o.Ended != "":
		return stepEnded(o)
	case !o.Sandbox || !o.Prepared:
		return afterFailure(o.Failures[""], now, Action{Kind: Prepare})
	}
	var d Decision
	if done, failed := d.stepInit(pod, o, now); failed || !done {
		return d
	}
	for i := range pod.Spec.Containers {
		d.stepContainer(pod, &pod.Spec.Containers[i], o, now, false)
	}
	d.removeOld(o)
	return d
}

func afterFailure(f Failure, now time.Time, a Action) Decision {
	if wait := f.RetryAt.Sub(now); wait > 0 {
		return Decision{Again: wait}
	}
	return Decision{Actions: []Action{a}}
}

// stepDown stops all containers, then removes them, then the sandbox.
func stepDown(o Observed) Decision {
	var d Decision
	running := false
	for _, c := range o.Containers {
		if c.State == runtime.Exited || c.State == runtime.Created {
			continue
		}
		running = true
		if !o.Stopping[c.ID] {
			d.Actions = append(d.Actions, Action{Kind: Stop, ID: c.ID, Reason: "pod is being deleted"})
		}
	}
	if running {
		return d
	}
	for _, c := range o.Containers {
		d.Actions = append(d.Actions, Action{Kind: Remove, ID: c.ID})
	}
	d.Actions = append(d.Actions, Action{Kind: Teardown}, Action{Kind: Report})
	return d
}

// stepEnded frees what a finished pod no longer needs. Its containers stay,
// for their logs and exit codes, until it is deleted.
func stepEnded(o Observed) Decision {
	if !o.Sandbox {
		return Decision{}
	}
	for _, c := range o.Containers {
		if c.State != runtime.Exited {
			return Decision{Actions: []Action{{Kind: Remove, ID: c.ID}}}
		}
	}
	return Decision{Actions: []Action{{Kind: Teardown}}}
}

// stepInit brings the init containers on, one after the other.
func (d *Decision) stepInit(pod *corev1.Pod, o Observed, now time.Time) (done, failed bool) {
	if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return latest(o, c.Name) != nil }) {
		return true, false
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		last := latest(o, c.Name)
		if last != nil && last.State == runtime.Exited && last.ExitCode == 0 {
			continue
		}
		if last != nil && last.State == runtime.Exited && pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
			return false, true
		}
		d.stepContainer(pod, c, o, now, true)
		return false, false
	}
	return true, false
}

// stepContainer starts, restarts or stops one container.
func (d *Decision) stepContainer(pod *corev1.Pod, c *corev1.Container, o Observed, now time.Time, init bool) {
	last := latest(o, c.Name)
	switch {
	case last == nil:
		d.start(o, c.Name, 0, now, time.Time{})
	case last.State == runtime.Created:
		d.Actions = append(d.Actions, Action{Kind: Remove, ID: last.ID})
	case last.State == runtime.Running:
		d.checkRunning(c, *last, o)
	case last.State == runtime.Exited && restarts(pod.Spec.RestartPolicy, last.ExitCode, init):
		d.start(o, c.Name, last.Attempt+1, now, last.FinishedAt.Add(CrashDelay(o.Crashes[c.Name])))
	}
}

func (d *Decision) checkRunning(c *corev1.Container, running runtime.Status, o Observed) {
	if o.Stopping[running.ID] {
		return
	}
	reason := o.Health[running.ID].Failed
	if running.SpecHash != SpecHash(c) {
		reason = fmt.Sprintf("container %s definition changed", c.Name)
	}
	if reason != "" {
		d.Actions = append(d.Actions, Action{Kind: Stop, ID: running.ID, Reason: reason})
	}
}

func (d *Decision) start(o Observed, name string, attempt int, now, notBefore time.Time) {
	if o.Pulling[name] {
		return
	}
	if retry := o.Failures[name].RetryAt; retry.After(notBefore) {
		notBefore = retry
	}
	if wait := notBefore.Sub(now); wait > 0 {
		d.lookAgain(wait)
		return
	}
	d.Actions = append(d.Actions, Action{Kind: Start, Container: name, Attempt: attempt})
}

func (d *Decision) lookAgain(after time.Duration) {
	if d.Again == 0 || after < d.Again {
		d.Again = after
	}
}

// removeOld lets go of attempts that nobody asks for any more.
func (d *Decision) removeOld(o Observed) {
	newest := map[string]int{}
	for _, c := range o.Containers {
		newest[c.Name] = max(newest[c.Name], c.Attempt)
	}
	for _, c := range o.Containers {
		if c.State == runtime.Exited && c.Attempt <= newest[c.Name]-keptAttempts {
			d.Actions = append(d.Actions, Action{Kind: Remove, ID: c.ID})
		}
	}
}

// restarts applies a pod's restart policy. An init container that failed is
// started again under Always and OnFailure alike.
func restarts(policy corev1.RestartPolicy, exitCode int, init bool) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return !init || exitCode != 0
}

// CrashDelay is how long a container that exited the n-th time in a row waits
// for its restart.
func CrashDelay(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(crashMax, crashBase<<min(n-2, 10))
}

// latest returns the newest attempt of a container, or nil.
func latest(o Observed, name string) *runtime.Status {
	var last *runtime.Status
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.Name == name && (last == nil || c.Attempt > last.Attempt) {
			last = c
		}
	}
	return last
}

// SpecHash changes when a running container has to be replaced: of all that a
// pod's container says, only the image can be changed.
func SpecHash(c *corev1.Container) string {
	h := fnv.New64a()
	fmt.Fprint(h, c.Name, "\x00", c.Image)
	return fmt.Sprintf("%016x", h.Sum64())
}
