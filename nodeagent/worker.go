package nodeagent

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// worker brings one pod where it should be and says where it is. Its own
// goroutine alone touches its fields, but for those below mu.
type worker struct {
	agent *agent
	uid   string
	awake chan struct{}

	pod      *corev1.Pod // as last bound; nil for what was found on the machine
	prepared *prepared
	failures map[string]Failure
	crashes  map[string]int
	counted  map[string]bool // container IDs whose exit is in crashes
	fresh    map[string]bool // by container name: its image was just pulled
	tornDown bool
	reported bool // that nothing is left
	said     corev1.PodStatus
	probes   *prober
	tasks    sync.WaitGroup // stops and pulls under way

	mu        sync.Mutex
	stopping  map[string]bool    // by container ID
	pulling   map[string]bool    // by container name
	pulled    map[string]error   // by container name: what came of a pull
	cancel    context.CancelFunc // of the pulls
	freshRefs bool
	freshImgs bool
}

func newWorker(a *agent, uid string) *worker {
	w := &worker{
		agent: a, uid: uid, awake: make(chan struct{}, 1), failures: map[string]Failure{}, crashes: map[string]int{},
		counted: map[string]bool{}, stopping: map[string]bool{}, pulling: map[string]bool{}, pulled: map[string]error{},
		fresh: map[string]bool{}, cancel: func() {},
	}
	w.said = a.reports[types.UID(uid)]
	w.probes = newProber(w)
	return w
}

func (w *worker) wake() {
	select {
	case w.awake <- struct{}{}:
	default:
	}
}

// refsChanged tells the worker that config maps or secrets changed.
func (w *worker) refsChanged() {
	w.mu.Lock()
	w.freshRefs = true
	w.mu.Unlock()
	w.wake()
}

// imagesChanged tells the worker that images were loaded.
func (w *worker) imagesChanged() {
	w.mu.Lock()
	w.freshImgs = true
	w.mu.Unlock()
	w.wake()
}

// run works until ctx ends, which leaves the pod running, or nothing of the
// pod is left and it is not bound here.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.tasks.Wait()
	defer w.probes.close()
	defer cancel()
	for {
		again, done := w.turn(ctx)
		if done || ctx.Err() != nil {
			return
		}
		if !w.sleep(ctx, again) {
			return
		}
	}
}

// sleep waits to be woken, at most for a while if one is given.
func (w *worker) sleep(ctx context.Context, again time.Duration) bool {
	var alarm <-chan time.Time
	if again > 0 {
		timer := time.NewTimer(again)
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-w.awake:
	case <-alarm:
	}
	return true
}

// turn takes steps until there is none to take.
func (w *worker) turn(ctx context.Context) (again time.Duration, done bool) {
	w.takeNews()
	for ctx.Err() == nil {
		bound := w.agent.bindings.pod(w.uid)
		if bound != nil {
			w.pod = bound
		}
		if w.reported {
			return 0, bound == nil && w.agent.gone(w.uid)
		}
		containers, known := w.agent.observer.containers(w.uid)
		if !known {
			return time.Second, false
		}
		o := w.observed(ctx, containers)
		w.say(bound, o, false)
		d := Step(bound, o, time.Now())
		if len(d.Actions) == 0 {
			return d.Again, false
		}
		for _, action := range d.Actions {
			if !w.do(ctx, action, o) {
				break
			}
		}
	}
	return 0, false
}

// takeNews forgets failures that the news may have mended.
func (w *worker) takeNews() {
	w.mu.Lock()
	refs, images := w.freshRefs, w.freshImgs
	w.freshRefs, w.freshImgs = false, false
	w.mu.Unlock()
	for name, f := range w.failures {
		mended := refs && (name == "" || f.Reason == reasonConfig) || images && isImageReason(f.Reason)
		if mended {
			f.RetryAt = time.Time{}
			w.failures[name] = f
		}
	}
	if refs && w.prepared != nil && w.pod != nil {
		if err := w.agent.cfg.Volumes.Update(w.pod, w.agent.bindings); err != nil {
			w.warn("FailedMount", err.Error())
		}
	}
}

// observed gathers what is known of the pod.
func (w *worker) observed(ctx context.Context, containers []runtime.Status) Observed {
	o := Observed{Containers: containers, Failures: w.failures, Crashes: w.crashes, IP: w.said.PodIP}
	if terminal(w.said.Phase) {
		o.Ended = w.said.Phase
		o.Sandbox = !w.tornDown
	} else if w.prepared != nil {
		o.Sandbox, o.Prepared, o.IP = true, true, w.prepared.sandbox.IP.String()
	}
	w.mu.Lock()
	o.Stopping, o.Pulling = clone(w.stopping), clone(w.pulling)
	for name, err := range w.pulled {
		delete(w.pulled, name)
		w.took(name, err)
	}
	w.mu.Unlock()
	w.countCrashes(containers)
	o.Messages = map[string]string{}
	for _, c := range containers {
		if c.State == runtime.Exited {
			o.Messages[c.ID] = w.agent.cfg.Volumes.ReadTerminationLog(w.uid, c.Name, c.Attempt)
		}
	}
	o.Health = w.probes.watch(ctx, w.pod, o)
	return o
}

func clone(m map[string]bool) map[string]bool {
	out := make(map[string]bool, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// countCrashes counts the exits of each container in a row. After a restart of
// the agent the attempt stands for what was not seen.
func (w *worker) countCrashes(containers []runtime.Status) {
	for _, c := range containers {
		if _, known := w.crashes[c.Name]; !known {
			w.crashes[c.Name] = 0
			if last := latest(Observed{Containers: containers}, c.Name); last.Attempt > 0 {
				w.crashes[c.Name] = last.Attempt
			}
		}
		last := latest(Observed{Containers: containers}, c.Name)
		if last.State != runtime.Exited || w.counted[last.ID] {
			continue
		}
		w.counted[last.ID] = true
		w.crashes[c.Name]++
		if last.FinishedAt.Sub(last.StartedAt) >= crashReset {
			w.crashes[c.Name] = 1
		}
		if last.Attempt > 0 || last.ExitCode != 0 {
			w.agent.metrics.exits.Inc()
		}
	}
}

// say publishes the pod's status if it is a new one. Before an agent that was
// restarted has taken the pod over, what it said before stands.
func (w *worker) say(bound *corev1.Pod, o Observed, stopped bool) {
	if bound == nil || terminal(w.said.Phase) && !stopped {
		return
	}
	takenOver := w.prepared != nil || w.said.StartTime == nil || len(o.Failures) > 0 || bound.DeletionTimestamp != nil
	if !takenOver {
		return
	}
	status := w.said
	if !terminal(w.said.Phase) {
		status = Status(bound, o, w.agent.cfg.NodeIP.String(), w.said, time.Now())
	}
	if sameStatus(status, w.said) && !stopped {
		return
	}
	w.said = status
	w.agent.publisher.publish(report{
		pod: types.NamespacedName{Namespace: bound.Namespace, Name: bound.Name}, uid: bound.UID, status: status, stopped: stopped,
	})
}

func (w *worker) warn(reason, message string) {
	if w.pod != nil {
		w.agent.cfg.Recorder.Event(w.pod, corev1.EventTypeWarning, reason, message)
	}
}

func (w *worker) note(reason, message string) {
	if w.pod != nil {
		w.agent.cfg.Recorder.Event(w.pod, corev1.EventTypeNormal, reason, message)
	}
}
