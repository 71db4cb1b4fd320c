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
	IP         string             // pod address, or ""
	Containers []runtime.Status   // all attempts that the runtime still has
	Stopping   map[string]bool    // by container ID: being stopped
	Replaced   map[string]bool    // by container ID: stopped because its definition changed
	Hooks      map[string]bool    // by container ID: its postStart hook is not through
	Pulling    map[string]bool    // by container name: its image is on the way
	Messages   map[string]string  // by container ID: why it ended, in its own words
	Failures   map[string]Failure // by container name, "" for the pod: what last went wrong before a start
	Crashes    map[string]int     // by container name: exits in a row without a long run between
	Health     map[string]Health  // by container ID, from the probes
	Ended      corev1.PodPhase    // the terminal phase already reported, or ""
	CutOff     bool               // the node is cut off, and the pod asks not to run then
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
	Replace   bool   // of Stop: it is to be started anew, whatever the restart policy
}

// Decision is what to do now, and when to look again if nothing happens.
type Decision struct {
	Actions []Action
	Again   time.Duration // 0: only when something changes
}

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
	case o.CutOff:
		return stepCutOff(o)
	case !o.Sandbox || !o.Prepared:
		d := afterFailure(o.Failures[""], now, Action{Kind: Prepare})
		d.checkRunning(pod, o)
		return d
	}
	var d Decision
	d.checkRunning(pod, o)
	if done := d.stepInit(pod, o, now); !done {
		return d
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		d.stepContainer(pod, c, o, now)
		if last := latest(o, c.Name); last != nil && o.Hooks[last.ID] {
			break // the next one starts when the hook is through
		}
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
	var d Decision
	for _, c := range o.Containers {
		switch {
		case c.State == runtime.Created:
			d.Actions = append(d.Actions, Action{Kind: Remove, ID: c.ID})
		case c.State != runtime.Exited && !o.Stopping[c.ID]:
			d.Actions = append(d.Actions, Action{Kind: Stop, ID: c.ID, Reason: "pod has ended"})
		}
	}
	quiet := !slices.ContainsFunc(o.Containers, func(c runtime.Status) bool { return c.State != runtime.Exited })
	if quiet && o.Sandbox {
		d.Actions = append(d.Actions, Action{Kind: Teardown})
	}
	return d
}

// stepInit brings the init containers on, one after the other, and reports
// whether they are done. They are when a later container was ever started.
func (d *Decision) stepInit(pod *corev1.Pod, o Observed, now time.Time) (done bool) {
	if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return latest(o, c.Name) != nil }) {
		return true
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		last := latest(o, c.Name)
		if last != nil && last.State == runtime.Exited && last.ExitCode == 0 && !o.Replaced[last.ID] {
			continue
		}
		d.stepContainer(pod, c, o, now)
		return false
	}
	return true
}

// stepContainer starts or restarts one container.
func (d *Decision) stepContainer(pod *corev1.Pod, c *corev1.Container, o Observed, now time.Time) {
	last := latest(o, c.Name)
	switch {
	case last == nil:
		d.start(o, c.Name, 0, now, time.Time{})
	case last.State == runtime.Created:
		d.Actions = append(d.Actions, Action{Kind: Remove, ID: last.ID})
	case last.State == runtime.Exited && startsAgain(pod, last, o):
		d.start(o, c.Name, last.Attempt+1, now, last.FinishedAt.Add(CrashDelay(o.Crashes[c.Name])))
	}
}

// checkRunning stops containers that are not well or not what the pod says.
func (d *Decision) checkRunning(pod *corev1.Pod, o Observed) {
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != runtime.Running || o.Stopping[c.ID] {
			continue
		}
		spec := containerNamed(pod, c.Name)
		stop := Action{Kind: Stop, ID: c.ID, Reason: o.Health[c.ID].Failed}
		if c.SpecHash != SpecHash(spec) {
			stop.Reason, stop.Replace = fmt.Sprintf("container %s definition changed", c.Name), true
		}
		if stop.Reason != "" {
			d.Actions = append(d.Actions, stop)
		}
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

// startsAgain reports whether an exited container is to be started again, now
// or later: by its pod's restart policy, or because it was stopped for that.
func startsAgain(pod *corev1.Pod, exited *runtime.Status, o Observed) bool {
	return o.Replaced[exited.ID] || restarts(pod.Spec.RestartPolicy, exited.ExitCode, isInit(pod, exited.Name))
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

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

// SpecHash changes when a running container has to be replaced: of all that a
// pod's container says, only the image can be changed.
func SpecHash(c *corev1.Container) string {
	h := fnv.New64a()
	fmt.Fprint(h, c.Name, "\x00", c.Image)
	return fmt.Sprintf("%016x", h.Sum64())
}
