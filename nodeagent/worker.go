package nodeagent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// worker brings one pod where it should be and says where it is. Its own
// goroutine alone touches its fields, but for those below mu.
type worker struct {
	agent *agent
	uid   string
	awake chan struct{} // has room for one: look again

	asked    *corev1.Pod // as last bound
	pod      *corev1.Pod // that, with the resources that it has been given; nil for what was found on the machine
	sandbox  *network.Sandbox
	prepared *prepared
	failures map[string]Failure
	crashes  crashes
	messages map[string]string // by container ID, of exited ones
	replaced map[string]bool   // by container ID: stopped to be started anew
	fresh    map[need]bool     // images that were just pulled
	backoff  images.Backoff
	cleaning int // removals in a row that went wrong
	tornDown bool
	reported bool // that nothing is left
	doom     *Doom
	resizing Failure   // what last went wrong with a resize
	ending   time.Time // when the first container was stopped for good
	said     corev1.PodStatus
	ended    atomic.Bool // said that it has
	probes   *prober
	tasks    sync.WaitGroup // stops, pulls and hooks under way
	noting   sync.Mutex     // held while a note is put on a container

	mu     sync.Mutex
	news   news
	stops  map[string]*stopJob           // by container ID
	pulls  map[string]*pulling           // by container name
	pulled map[string]pulled             // by container name
	hooks  map[string]context.CancelFunc // by container ID: postStart
}

// newWorker returns the worker of a pod of which an earlier process of this
// node said something, or nothing.
func newWorker(a *agent, uid string, said corev1.PodStatus) *worker {
	w := &worker{
		agent: a, uid: uid, awake: make(chan struct{}, 1), said: said,
		failures: map[string]Failure{}, crashes: crashes{}, messages: map[string]string{}, replaced: map[string]bool{}, fresh: map[need]bool{},
		stops: map[string]*stopJob{}, pulls: map[string]*pulling{}, pulled: map[string]pulled{}, hooks: map[string]context.CancelFunc{},
	}
	w.ended.Store(terminal(said.Phase))
	w.probes = newProber(w)
	return w
}

// tell may be called from anywhere.
func (w *worker) tell(n news) {
	w.mu.Lock()
	w.news.refs = w.news.refs || n.refs
	w.news.images = w.news.images || n.images
	w.news.network = w.news.network || n.network
	w.news.runtime = w.news.runtime || n.runtime
	w.news.mirror = w.news.mirror || n.mirror
	if w.news.doom == nil {
		w.news.doom = n.doom
	}
	w.mu.Unlock()
	poke(w.awake)
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

// turn takes steps until there is none to take, and says when to look again,
// or that there is nothing left to do ever.
func (w *worker) turn(ctx context.Context) (again time.Duration, done bool) {
	w.takeNews(ctx)
	for ctx.Err() == nil {
		bound := w.takeBound()
		if w.reported {
			if bound == nil && w.agent.gone(w.uid) {
				w.agent.allocations.forget(w.uid)
				w.agent.retryResizes()
				return 0, true
			}
			if bound != nil && bound.DeletionTimestamp != nil {
				return 0, false
			}
			w.beginAnew()
			continue
		}
		containers, known := w.agent.observer.containers(w.uid)
		if !known {
			return 0, false
		}
		if unknown := w.agent.presence.unknown(time.Now()); unknown > 0 && w.heedsPresence() {
			return unknown, false
		}
		o := w.observed(ctx, containers)
		if ended := w.say(bound, o, false); ended {
			continue
		}
		d := Step(bound, o, time.Now())
		if len(d.Actions) == 0 {
			return d.Again, false
		}
		if again := w.carryOut(ctx, d.Actions, o); again > 0 {
			return again, false
		}
	}
	return 0, false
}

// takeBound takes the pod as it is bound now, with the resources that it has
// been given, and returns that, or nil if it no longer is; its volumes follow
// what it says of itself.
func (w *worker) takeBound() *corev1.Pod {
	w.asked = w.agent.bindings.pod(w.uid)
	if w.asked == nil {
		return nil
	}
	bound := w.givenResources()
	changed := w.pod != nil && w.pod != bound
	w.pod = bound
	if changed {
		w.resizing = Failure{}
		w.retry(news{refs: true}) // what it says of itself is as good as a reference
	}
	if changed && w.prepared != nil && asksAboutItself(bound) {
		w.updateVolumes()
	}
	return bound
}

func (w *worker) updateVolumes() {
	if err := w.agent.cfg.Volumes.Update(w.pod, w.agent.refs()); err != nil {
		w.agent.warn(w.pod, reasonVolumes, err.Error())
	}
}

// carryOut does the actions of one decision for as long as it holds. again is
// when to try what cannot be done now.
func (w *worker) carryOut(ctx context.Context, actions []Action, o Observed) (again time.Duration) {
	for _, action := range actions {
		holds, err := w.do(ctx, action, o)
		if err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if w.onItsWay(action.Container, err) {
				level = slog.LevelDebug
			}
			w.agent.cfg.Logger.Log(ctx, level, "pod "+string(action.Kind), "pod", nameOf(w.pod), "uid", w.uid, "container", action.Container, "error", err)
			return w.afterError(action)
		}
		if !holds || ctx.Err() != nil || w.agent.bindings.pod(w.uid) != w.asked {
			return 0
		}
	}
	w.cleaning = 0
	return 0
}

// afterError is how long to wait after an action went wrong: with removals,
// which nobody hears of, from 1 s to 1 min; failures of the others are known
// to Step.
func (w *worker) afterError(action Action) time.Duration {
	if action.Kind != Remove && action.Kind != Teardown {
		return 0
	}
	w.cleaning++
	return min(time.Minute, time.Second<<min(w.cleaning-1, 6))
}

// beginAnew is for a pod that is bound again after all was removed.
func (w *worker) beginAnew() {
	w.reported = false
	w.agent.allocations.forget(w.uid)
	w.crashes = crashes{}
	w.doom, w.ending = nil, time.Time{}
	if !terminal(w.said.Phase) {
		w.said = corev1.PodStatus{EphemeralContainerStatuses: w.said.EphemeralContainerStatuses} // they are not started again
	}
}

// observed gathers what is known of the pod.
func (w *worker) observed(ctx context.Context, containers []runtime.Status) Observed {
	// First what is under way, then what came of it: a pull that ends in between
	// must not look as if there had been none.
	w.mu.Lock()
	pulling := w.pullingLocked()
	w.mu.Unlock()
	w.takePulled()
	containers = w.takeInit(containers)
	w.takeNotes(containers)
	w.keepLogs(containers)
	containers, ephemeral := partEphemeral(w.pod, containers)
	o := Observed{
		Containers: containers, Ephemeral: ephemeral, Begun: begun(w.said.EphemeralContainerStatuses), Failures: w.failures, Replaced: w.replaced, IP: w.said.PodIP,
		AppArmor: hasAppArmor(), Sandbox: w.sandbox != nil, Prepared: w.prepared != nil, CutOff: w.mustStop(time.Now()), Doom: w.doom,
	}
	if w.said.StartTime != nil {
		o.Since = w.said.StartTime.Time
	}
	if w.sandbox != nil {
		o.IP = w.sandbox.IP.String()
	}
	if terminal(w.said.Phase) {
		o.Ended, o.Sandbox, o.IP = w.said.Phase, !w.tornDown, w.said.PodIP
	}
	w.mu.Lock()
	o.Stopping, o.Pulling, o.Hooks = names(w.stops), pulling, names(w.hooks)
	w.mu.Unlock()
	o.Resize = w.observedResize(o)
	w.pendingHooks(ctx, o)
	w.agent.metrics.exits.Add(float64(w.crashes.observe(w.pod, containers)))
	o.Crashes = w.crashes.counts()
	o.Messages = w.terminationMessages(ctx, o.all())
	o.Health = w.probes.watch(ctx, w.pod, o)
	w.shortenStops()
	return o
}

func names[V any](m map[string]V) map[string]bool {
	out := make(map[string]bool, len(m))
	for k := range m {
		out[k] = true
	}
	return out
}

// terminationMessages reads, once, what exited containers left.
func (w *worker) terminationMessages(ctx context.Context, containers []runtime.Status) map[string]string {
	out := make(map[string]string, len(w.messages))
	for _, c := range containers {
		if c.State != runtime.Exited {
			continue
		}
		message, known := w.messages[c.ID]
		if !known {
			message = w.terminationMessage(ctx, &c)
		}
		out[c.ID] = message
	}
	w.messages = out
	return out
}

// say publishes the pod's status if it is a new one, and reports whether the
// pod ended by it. Before an agent that was restarted has taken the pod over,
// what it said before stands.
func (w *worker) say(bound *corev1.Pod, o Observed, stopped bool) (ended bool) {
	if bound == nil || terminal(w.said.Phase) && !stopped {
		return false
	}
	takenOver := w.prepared != nil || w.said.StartTime == nil || len(o.Failures) > 0 || bound.DeletionTimestamp != nil ||
		finishing(bound, o, time.Now()) != "" // nothing is prepared for it any more
	if !takenOver {
		return false
	}
	status := w.said
	if !terminal(w.said.Phase) {
		status = Status(bound, o, w.agent.cfg.NodeIP.String(), w.said, time.Now())
	}
	if sameStatus(status, w.said) && !stopped {
		return false
	}
	w.said = status
	w.ended.Store(terminal(status.Phase))
	w.publish(bound, status, stopped)
	if terminal(status.Phase) {
		w.agent.allocations.over(w.uid)
		w.agent.retryResizes()
	}
	return terminal(status.Phase) && !stopped
}

func (w *worker) publish(pod *corev1.Pod, status corev1.PodStatus, stopped bool) {
	w.agent.publisher.publish(report{
		pod: types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, uid: pod.UID, status: status, stopped: stopped,
	})
}

func nameOf(pod *corev1.Pod) string {
	if pod == nil {
		return ""
	}
	return pod.Namespace + "/" + pod.Name
}

// warn records that something went wrong with a pod; nil is one that is only
// found on the machine.
func (a *agent) warn(pod *corev1.Pod, reason, message string) {
	if pod != nil {
		a.cfg.Recorder.Event(pod, corev1.EventTypeWarning, reason, message)
	}
}

// note records what was done for a pod.
func (a *agent) note(pod *corev1.Pod, reason, message string) {
	if pod != nil {
		a.cfg.Recorder.Event(pod, corev1.EventTypeNormal, reason, message)
	}
}
