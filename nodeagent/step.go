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
	Containers []runtime.Status   // all attempts that the runtime still has, but for those of ephemeral containers
	Ephemeral  []runtime.Status   // ephemeral containers that the runtime still has
	Begun      map[string]bool    // by name: ephemeral containers that are known to have been started
	Stopping   map[string]bool    // by container ID: being stopped
	Replaced   map[string]bool    // by container ID: stopped, or to be stopped, to be started anew
	Hooks      map[string]bool    // by container ID: its postStart hook is not through
	Pulling    map[string]string  // by container name, of those whose image is on the way: how far it is
	Messages   map[string]string  // by container ID: why it ended, in its own words
	Failures   map[string]Failure // by container name, "" for the pod: what last went wrong before a start
	Crashes    map[string]int     // by container name: exits in a row without a long run between
	Health     map[string]Health  // by container ID, from the probes
	Ended      corev1.PodPhase    // the terminal phase already reported, or ""
	CutOff     bool               // the node is cut off, and the pod asks not to run then
	Doom       *Doom              // why it must fail, or nil
	Resize     Resize             // how far it is with the resources that it has been given
	AppArmor   bool               // the machine enforces its profiles
	Since      time.Time          // when the pod began to be active; zero: not yet
}

// all are the containers of every kind.
func (o Observed) all() []runtime.Status {
	if len(o.Ephemeral) == 0 {
		return o.Containers
	}
	return slices.Concat(o.Containers, o.Ephemeral)
}

// Failure is an attempt that led to no container.
type Failure struct {
	Reason, Message string
	Tries           int
	Since           time.Time // the first of the tries; only kept for some
	RetryAt         time.Time
}

// Health is what the probes found of one container. A container without a
// probe of some sort is healthy in that respect.
type Health struct {
	Started bool   // the startup probe passed
	Ready   bool   // the readiness probe passes
	Failed  string // why it must be restarted, or ""
	Grace   *int64 // seconds that the failed probe gives it to end; nil: the pod's
}

// ActionKind is one thing that a pod worker can do.
type ActionKind string

// The actions. Stop takes time and is carried out beside the others; the rest
// are done in order.
const (
	Prepare  ActionKind = "prepare"  // sandbox, volumes, files
	Start    ActionKind = "start"    // a container
	Stop     ActionKind = "stop"     // a container, gracefully
	Update   ActionKind = "resize"   // what the pod and its containers may use
	Remove   ActionKind = "remove"   // an exited container
	Teardown ActionKind = "teardown" // sandbox and volumes
	Report   ActionKind = "report"   // that nothing of the pod is left
)

// Action is one step towards what should be.
type Action struct {
	Kind      ActionKind
	Container string // name, of Start
	Attempt   int    // of Start
	Round     int    // of Start: how often all were started anew before
	ID        string // of Stop and Remove
	Reason    string // of Stop: for the event
	Grace     *int64 // of Stop: seconds; nil: the pod's
	Replace   bool   // of Stop: it is to be started anew, however it ends
	Resize    bool   // of Stop: because of other resources
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
		return stepDown(pod, o)
	case o.Ended != "":
		return stepEnded(pod, o)
	}
	var d Decision
	if why := finishing(pod, o, now); why != "" {
		d.stopInTurn(pod, o, why)
		return d
	}
	if o.CutOff {
		return stepCutOff(o)
	}
	if left, limited := activeLeft(pod, o, now); limited {
		d.Again = left
	}
	if !o.Sandbox || !o.Prepared {
		d.prepare(o.Failures[""], now)
		d.checkRunning(pod, o)
		return d
	}
	d.checkRunning(pod, o)
	d.resize(pod, o, now)
	d.advance(pod, o, now)
	d.startEphemeral(pod, o, now)
	d.removeOld(o)
	return d
}

// advance starts what is to be started: all anew if a container's exit asked
// for that, and what is missing else.
func (d *Decision) advance(pod *corev1.Pod, o Observed, now time.Time) {
	r := roundsOf(pod, o)
	if r.running(o) {
		d.stopPast(pod, o, r)
		return
	}
	s := starter{Decision: d, pod: pod, all: o, Observed: r.present(o), now: now, round: r.now, notBefore: r.notBefore(o)}
	if !s.init() {
		return
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		s.container(c)
		if last := latest(s.Observed, c.Name); last != nil && o.Hooks[last.ID] {
			return // the next one starts when the hook is through
		}
	}
}

// stopPast stops the containers of earlier rounds, in turn.
func (d *Decision) stopPast(pod *corev1.Pod, o Observed, r rounds) {
	past := o
	past.Ephemeral = nil
	past.Containers = slices.DeleteFunc(slices.Clone(o.Containers), func(c runtime.Status) bool { return !r.past(&c) })
	from, cause := len(d.Actions), ""
	if r.cause != nil {
		cause = r.cause.Name
	}
	d.stopInTurn(pod, past, fmt.Sprintf("container %s exited and all are started anew", cause))
	for i := range d.Actions[from:] {
		d.Actions[from+i].Replace = true
	}
}

func (d *Decision) prepare(f Failure, now time.Time) {
	if wait := f.RetryAt.Sub(now); wait > 0 {
		d.lookAgain(wait)
		return
	}
	d.Actions = append(d.Actions, Action{Kind: Prepare})
}

// stepDown stops all containers, then removes them, then the sandbox.
func stepDown(pod *corev1.Pod, o Observed) Decision {
	var d Decision
	if anyUp(o) {
		d.stopInTurn(pod, o, "pod is being deleted")
		return d
	}
	for _, c := range o.all() {
		d.Actions = append(d.Actions, Action{Kind: Remove, ID: c.ID})
	}
	d.Actions = append(d.Actions, Action{Kind: Teardown}, Action{Kind: Report})
	return d
}

// stepEnded frees what a finished pod no longer needs. Its containers stay,
// for their logs and exit codes, until it is deleted.
func stepEnded(pod *corev1.Pod, o Observed) Decision {
	var d Decision
	for _, c := range o.all() {
		if c.State == runtime.Created {
			d.Actions = append(d.Actions, Action{Kind: Remove, ID: c.ID})
		}
	}
	d.stopInTurn(pod, o, "pod has ended")
	quiet := !slices.ContainsFunc(o.all(), func(c runtime.Status) bool { return c.State != runtime.Exited })
	if quiet && o.Sandbox {
		d.Actions = append(d.Actions, Action{Kind: Teardown})
	}
	return d
}

// starter adds starts to a decision. Observed is what there is of the present
// round, all is everything.
type starter struct {
	*Decision
	Observed
	pod       *corev1.Pod
	all       Observed
	now       time.Time
	round     int
	notBefore time.Time // for what was never started in this round
}

// init brings the init containers on, one after the other, and reports whether
// the others may start. Where a later one was ever started the earlier ones
// are done, but for sidecars, which go on beside the rest.
func (s *starter) init() (done bool) {
	begun := slices.ContainsFunc(s.pod.Spec.Containers, func(c corev1.Container) bool { return latest(s.Observed, c.Name) != nil })
	list := s.pod.Spec.InitContainers
	at := len(list) // the one whose turn it is
	for i := len(list) - 1; i >= 0 && !begun; i-- {
		at = i
		if latest(s.Observed, list[i].Name) != nil {
			break
		}
	}
	for ; at < len(list) && s.initialized(&list[at]); at++ {
	}
	for i := range min(at+1, len(list)) {
		if i == at || isSidecar(&list[i]) {
			s.container(&list[i])
		}
	}
	return at == len(list)
}

// initialized reports whether the init container after this one may start.
func (s *starter) initialized(c *corev1.Container) bool {
	last := latest(s.Observed, c.Name)
	switch {
	case last == nil:
		return false
	case isSidecar(c):
		return isUp(last) && s.Health[last.ID].Started && !s.Hooks[last.ID]
	}
	return last.State == runtime.Exited && last.ExitCode == 0 && !s.Replaced[last.ID]
}

// container starts or restarts one container.
func (s *starter) container(c *corev1.Container) {
	last := latest(s.Observed, c.Name)
	switch {
	case last == nil:
		s.start(c.Name, s.notBefore)
	case last.State == runtime.Created:
		s.Actions = append(s.Actions, Action{Kind: Remove, ID: last.ID})
	case last.State == runtime.Exited && startsAgain(s.pod, last, s.Observed):
		s.start(c.Name, last.FinishedAt.Add(CrashDelay(s.Crashes[c.Name])))
	}
}

func (s *starter) start(name string, notBefore time.Time) {
	if _, pulling := s.Pulling[name]; pulling {
		return
	}
	if retry := s.Failures[name].RetryAt; retry.After(notBefore) {
		notBefore = retry
	}
	if wait := notBefore.Sub(s.now); wait > 0 {
		s.lookAgain(wait)
		return
	}
	attempt := 0
	if last := latest(s.all, name); last != nil {
		attempt = last.Attempt + 1
	}
	s.Actions = append(s.Actions, Action{Kind: Start, Container: name, Attempt: attempt, Round: s.round})
}

// checkRunning stops containers that are not well or not what the pod says.
func (d *Decision) checkRunning(pod *corev1.Pod, o Observed) {
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != runtime.Running || o.Stopping[c.ID] {
			continue
		}
		spec, health := containerNamed(pod, c.Name), o.Health[c.ID]
		stop := Action{Kind: Stop, ID: c.ID, Reason: health.Failed, Grace: health.Grace, Replace: restartsIll(pod, spec)}
		if c.SpecHash != SpecHash(spec) {
			stop = Action{Kind: Stop, ID: c.ID, Reason: fmt.Sprintf("container %s definition changed", c.Name), Replace: true}
		}
		if stop.Reason == "" && o.Replaced[c.ID] {
			n := noteOf(c)
			stop = Action{Kind: Stop, ID: c.ID, Reason: fmt.Sprintf("container %s was about to be replaced", c.Name), Grace: n.Grace, Replace: true, Resize: n.Resize}
		}
		if stop.Reason != "" {
			d.Actions = append(d.Actions, stop)
		}
	}
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
// or later: by its pod's rules, or because it was stopped for that.
func startsAgain(pod *corev1.Pod, exited *runtime.Status, o Observed) bool {
	return o.Replaced[exited.ID] || restartsAfter(pod, containerNamed(pod, exited.Name), exited.ExitCode)
}

// SpecHash changes when a running container has to be replaced: of all that a
// pod's container says, only the image can be changed.
func SpecHash(c *corev1.Container) string {
	h := fnv.New64a()
	fmt.Fprint(h, c.Name, "\x00", c.Image)
	return fmt.Sprintf("%016x", h.Sum64())
}
