package nodeagent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// withSidecars adds init containers that run beside the others.
func withSidecars(pod *corev1.Pod, names ...string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	for _, name := range names {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent, RestartPolicy: &always})
	}
	return pod
}

// withRule lets a container's exit code have an effect.
func withRule(pod *corev1.Pod, container string, action corev1.ContainerRestartRuleAction, code int32) *corev1.Pod {
	never := corev1.ContainerRestartPolicyNever
	c := containerNamed(pod, container)
	c.RestartPolicy = &never
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code}},
	}}
	return pod
}

func (o Observed) started(ids ...string) Observed {
	o.Health = map[string]Health{}
	for _, id := range ids {
		o.Health[id] = Health{Started: true, Ready: true}
	}
	return o
}

// inRound puts a container into the second round.
func inRound(s runtime.Status) runtime.Status {
	s.Round = 1
	return s
}

// TestStepLife: init containers, sidecars, rounds and ends.
func TestStepLife(t *testing.T) {
	start := func(name string, attempt int) Action {
		return Action{Kind: Start, Container: name, Attempt: attempt}
	}
	stop := func(id, reason string) Action { return Action{Kind: Stop, ID: id, Reason: reason} }
	run := func(name string) runtime.Status { return ran(name, 0, runtime.Running) }
	acts := func(actions ...Action) Decision { return Decision{Actions: actions} }
	never := func(pod *corev1.Pod) *corev1.Pod { return withPolicy(pod, corev1.RestartPolicyNever) }
	limited := func(pod *corev1.Pod, seconds int64) *corev1.Pod {
		pod.Spec.ActiveDeadlineSeconds = &seconds
		return pod
	}
	since := func(d time.Duration) func(*Observed) { return func(o *Observed) { o.Since = noon.Add(-d) } }
	const ended, deleted = "pod has ended", "pod is being deleted"
	restartAll := corev1.ContainerRestartRuleActionRestartAllContainers
	tests := []struct {
		name string
		pod  *corev1.Pod
		o    Observed
		want Decision
	}{
		{"sidecar first", withInit(withSidecars(newPod("p", "a"), "s"), "i"), up(), acts(start("s", 0))},
		{"sidecar not started yet", withInit(withSidecars(newPod("p", "a"), "s"), "i"), up(run("s")), acts()},
		{"sidecar started", withInit(withSidecars(newPod("p", "a"), "s"), "i"), up(run("s")).started("s/0"), acts(start("i", 0))},
		{"sidecar's hook", withSidecars(newPod("p", "a"), "s"), up(run("s")).started("s/0").with(func(o *Observed) { o.Hooks = map[string]bool{"s/0": true} }), acts()},
		{"init done behind a sidecar", withInit(withSidecars(newPod("p", "a"), "s"), "i"), up(run("s"), exited("i", 0, 0)).started("s/0"), acts(start("a", 0))},
		{"sidecar ended before the others begin", withInit(withSidecars(newPod("p", "a"), "s"), "i"), up(exited("s", 0, 0), run("i")), acts(start("s", 1))},
		{"sidecar ended later", withSidecars(newPod("p", "a"), "s"), up(exited("s", 0, 0), run("a")), acts(start("s", 1))},
		{"sidecar ended later, Never", never(withSidecars(newPod("p", "a"), "s")), up(exited("s", 0, 1), run("a")), acts(start("s", 1))},
		{"init container removed", withInit(newPod("p", "a"), "i", "j"), up(exited("j", 0, 0)), acts(start("a", 0))},

		{"sidecars when all has ended", never(withSidecars(newPod("p", "a"), "s", "t")), up(exited("a", 0, 0), run("s"), run("t")), acts(stop("t/0", ended))},
		{"the last sidecar when all has ended", never(withSidecars(newPod("p", "a"), "s", "t")), up(exited("a", 0, 0), run("s"), exited("t", 0, 143)), acts(stop("s/0", ended))},
		{"sidecars when init failed", never(withInit(withSidecars(newPod("p", "a"), "s"), "i")), up(run("s"), exited("i", 0, 1)), acts(stop("s/0", "init container i has failed"))},
		{"sidecars when deleted", going(withSidecars(newPod("p", "a", "b"), "s")), up(run("a"), run("b"), run("s")), acts(stop("a/0", deleted), stop("b/0", deleted))},
		{"sidecars when deleted, at last", going(withSidecars(newPod("p", "a"), "s", "t")), up(exited("a", 0, 0), run("s"), run("t")), acts(stop("t/0", deleted))},
		{
			"sidecars when deleted without grace", func() *corev1.Pod {
				p := going(withSidecars(newPod("p", "a"), "s"))
				p.DeletionGracePeriodSeconds = new(int64)
				return p
			}(), up(run("a"), run("s")), acts(stop("a/0", deleted), stop("s/0", deleted)),
		},

		{"within its deadline", limited(newPod("p", "a"), 60), up(run("a")).with(since(20 * time.Second)), Decision{Again: 40 * time.Second}},
		{"past its deadline", limited(newPod("p", "a"), 60), up(run("a")).with(since(time.Minute)), acts(stop("a/0", "Pod was active on the node longer than the specified deadline"))},
		{"past its deadline, nothing runs", limited(newPod("p", "a"), 60), up().with(since(time.Hour)), acts()},
		{"must fail", newPod("p", "a"), up(run("a")).with(func(o *Observed) { o.Doom = &Doom{Reason: "Evicted", Message: "memory"} }), acts(stop("a/0", "memory"))},

		{"a rule restarts", withRule(newPod("p", "a"), "a", corev1.ContainerRestartRuleActionRestart, 7), up(exited("a", 0, 7)), acts(start("a", 1))},
		{"no rule fits", withRule(newPod("p", "a"), "a", corev1.ContainerRestartRuleActionRestart, 7), up(exited("a", 0, 1)), acts()},
		{
			"a rule restarts all", withInit(withRule(newPod("p", "a", "b"), "a", restartAll, 7), "i"), up(exited("i", 0, 0), exited("a", 0, 7), run("b")),
			acts(Action{Kind: Stop, ID: "b/0", Reason: "container a exited and all are started anew", Replace: true}),
		},
		{
			"a rule restarts all, from the first", withInit(withRule(newPod("p", "a", "b"), "a", restartAll, 7), "i"), up(exited("i", 0, 0), exited("a", 0, 7), exited("b", 0, 143)),
			acts(Action{Kind: Start, Container: "i", Attempt: 1, Round: 1}),
		},
		{
			"a rule restarted all, and they go on", withInit(withRule(newPod("p", "a", "b"), "a", restartAll, 7), "i"),
			up(exited("i", 0, 0), exited("a", 0, 7), exited("b", 0, 143), inRound(exited("i", 1, 0))), acts(Action{Kind: Start, Container: "a", Attempt: 1, Round: 1}, Action{Kind: Start, Container: "b", Attempt: 1, Round: 1}),
		},
		{
			"a rule restarts all, in a crash loop", withRule(newPod("p", "a", "b"), "a", restartAll, 7), up(exited("a", 2, 7), exited("b", 2, 143)).with(func(o *Observed) { o.Crashes = map[string]int{"a": 3} }),
			Decision{Again: 20 * time.Second},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Step(test.pod, test.o, noon)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSidecarLife(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := withPolicy(withSidecars(newPod("a", "main"), "first", "second"), corev1.RestartPolicyNever)
		w.start()
		w.bind(pod)
		w.wantState(pod, "Running first=running,ready,0 second=running,ready,0 main=running,ready,0")
		w.exit(pod, "first", 0)
		w.wantState(pod, "Running first=running,ready,1 second=running,ready,0 main=running,ready,0")
		w.runtime.IgnoreSIGTERM("second")
		w.exit(pod, "main", 0)
		w.wantState(pod, "Running first=running,ready,1 second=running,0 main=Completed,0")
		w.pass(30 * time.Second)
		w.wantState(pod, "Succeeded first=Error,1 second=Error,0 main=Completed,0")
	})
}

func TestDeadline(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.ActiveDeadlineSeconds = new(int64)
		*pod.Spec.ActiveDeadlineSeconds = 60
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		w.pass(40 * time.Second)
		w.kill()
		w.start()
		w.pass(21 * time.Second)
		w.wantState(pod, "Running main=running,0")
		w.pass(30 * time.Second)
		w.wantState(pod, "Failed main=Error,0")
		if got := w.said(pod).Status; got.Reason != "DeadlineExceeded" {
			t.Errorf("reason %q, message %q", got.Reason, got.Message)
		}
	})
}

func TestReadinessGate(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/loaded"}}
		w.start()
		w.bind(pod)
		ready := func() string {
			for _, c := range w.said(pod).Status.Conditions {
				if c.Type == corev1.PodReady {
					return string(c.Status) + " " + c.Reason
				}
			}
			return ""
		}
		if got := ready(); got != "False ReadinessGatesNotReady" {
			t.Errorf("before: %s", got)
		}
		loaded := pod.DeepCopy()
		loaded.Status.Conditions = []corev1.PodCondition{{Type: "example.com/loaded", Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		w.bind(loaded)
		if got := ready(); got != "True " {
			t.Errorf("after: %s", got)
		}
		if conditionOf(w.said(pod).Status.Conditions, "example.com/loaded") == nil {
			t.Error("somebody else's condition is lost")
		}
	})
}

func TestProbeGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		grace := int64(3)
		pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"ok"}}}, FailureThreshold: 1, PeriodSeconds: 10, TimeoutSeconds: 1,
			TerminationGracePeriodSeconds: &grace,
		}
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.runtime.OnExec(failingExec)
		w.bind(pod)
		w.pass(2900 * time.Millisecond)
		w.wantState(pod, "Running main=running,0")
		w.pass(time.Second)
		w.wantState(pod, "Running main=running,1")
		synctest.Wait()
	})
}

func failingExec(context.Context, string, []string) (int, []byte, error) { return 1, nil, nil }

// A pod whose last container ended while there was no agent has ended, and is
// said to have by the next one.
func TestEndsWithoutAgent(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("job", "main")
		pod.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		w.start()
		w.bind(pod)
		w.kill()
		w.exit(pod, "main", 0)
		w.start()
		w.pass(time.Second)
		w.wantState(pod, "Succeeded main=Completed,0")
	})
}
