package nodeagent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// ran is an attempt of a container of app:1, with ID "name/attempt".
func ran(name string, attempt int, state runtime.State) runtime.Status {
	return runtime.Status{
		ID: name + "/" + string(rune('0'+attempt)), Name: name, Attempt: attempt, State: state, Image: "app:1",
		SpecHash: SpecHash(&corev1.Container{Name: name, Image: "app:1"}), StartedAt: noon.Add(-time.Minute),
	}
}

func exited(name string, attempt, code int) runtime.Status {
	s := ran(name, attempt, runtime.Exited)
	s.ExitCode, s.FinishedAt = code, noon
	return s
}

// up is a prepared pod with some containers.
func up(containers ...runtime.Status) Observed {
	return Observed{Sandbox: true, Prepared: true, IP: "10.1.0.2", Containers: containers}
}

func (o Observed) with(change func(*Observed)) Observed {
	change(&o)
	return o
}

func withPolicy(pod *corev1.Pod, policy corev1.RestartPolicy) *corev1.Pod {
	pod.Spec.RestartPolicy = policy
	return pod
}

func withInit(pod *corev1.Pod, names ...string) *corev1.Pod {
	for _, name := range names {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "app:1"})
	}
	return pod
}

func going(pod *corev1.Pod) *corev1.Pod {
	now := metav1.NewTime(noon)
	pod.DeletionTimestamp = &now
	return pod
}

func TestStep(t *testing.T) {
	pod := func() *corev1.Pod { return newPod("p", "a", "b") }
	start := func(name string, attempt int) Action {
		return Action{Kind: Start, Container: name, Attempt: attempt}
	}
	run := func(name string) runtime.Status { return ran(name, 0, runtime.Running) }
	const deleted = "pod is being deleted"
	tests := []struct {
		name string
		pod  *corev1.Pod
		o    Observed
		want Decision
	}{
		{"new pod", pod(), Observed{}, Decision{Actions: []Action{{Kind: Prepare}}}},
		{"sandbox without volumes", pod(), Observed{Sandbox: true}, Decision{Actions: []Action{{Kind: Prepare}}}},
		{"preparation failed", pod(), Observed{Failures: map[string]Failure{"": {RetryAt: noon.Add(4 * time.Second)}}}, Decision{Again: 4 * time.Second}},
		{
			"not prepared, but runs and is ill", pod(),
			Observed{Containers: []runtime.Status{run("a")}, Failures: map[string]Failure{"": {RetryAt: noon.Add(4 * time.Second)}}, Health: map[string]Health{"a/0": {Failed: "ill"}}},
			Decision{Actions: []Action{{Kind: Stop, ID: "a/0", Reason: "ill", Replace: true}}, Again: 4 * time.Second},
		},
		{"prepared", pod(), up(), Decision{Actions: []Action{start("a", 0), start("b", 0)}}},
		{"all run", pod(), up(run("a"), run("b")), Decision{}},
		{"one of unknown state", pod(), up(run("a"), ran("b", 0, runtime.Unknown)), Decision{}},
		{"hook before the next container", pod(), up(run("a")).with(func(o *Observed) { o.Hooks = map[string]bool{"a/0": true} }), Decision{}},
		{"pulling", pod(), up(run("a")).with(func(o *Observed) { o.Pulling = map[string]string{"b": "Pulling"} }), Decision{}},
		{
			"start failed", pod(), up(run("a")).with(func(o *Observed) { o.Failures = map[string]Failure{"b": {RetryAt: noon.Add(time.Second)}} }),
			Decision{Again: time.Second},
		},
		{"created and never started", pod(), up(run("a"), ran("b", 0, runtime.Created)), Decision{Actions: []Action{{Kind: Remove, ID: "b/0"}}}},

		{"first init container", withInit(pod(), "i", "j"), up(), Decision{Actions: []Action{start("i", 0)}}},
		{"init container runs", withInit(pod(), "i", "j"), up(run("i")), Decision{}},
		{"second init container", withInit(pod(), "i", "j"), up(exited("i", 0, 0)), Decision{Actions: []Action{start("j", 0)}}},
		{"init containers done", withInit(pod(), "i", "j"), up(exited("i", 0, 0), exited("j", 0, 0)), Decision{Actions: []Action{start("a", 0), start("b", 0)}}},
		{"init container failed", withInit(pod(), "i", "j"), up(exited("i", 0, 1)), Decision{Actions: []Action{start("i", 1)}}},
		{"init container failed, OnFailure", withPolicy(withInit(pod(), "i"), corev1.RestartPolicyOnFailure), up(exited("i", 0, 1)), Decision{Actions: []Action{start("i", 1)}}},
		{"init container failed, Never", withPolicy(withInit(pod(), "i"), corev1.RestartPolicyNever), up(exited("i", 0, 1)), Decision{}},
		{"init containers are not run again", withInit(pod(), "i"), up(run("a")), Decision{Actions: []Action{start("b", 0)}}},

		{"exited with 0, Always", pod(), up(exited("a", 0, 0), run("b")), Decision{Actions: []Action{start("a", 1)}}},
		{"exited with 0, OnFailure", withPolicy(pod(), corev1.RestartPolicyOnFailure), up(exited("a", 0, 0), run("b")), Decision{}},
		{"exited with 1, OnFailure", withPolicy(pod(), corev1.RestartPolicyOnFailure), up(exited("a", 0, 1), run("b")), Decision{Actions: []Action{start("a", 1)}}},
		{"exited with 1, Never", withPolicy(pod(), corev1.RestartPolicyNever), up(exited("a", 0, 1), run("b")), Decision{}},
		{
			"crash loop", pod(), up(exited("a", 1, 1), run("b")).with(func(o *Observed) { o.Crashes = map[string]int{"a": 3} }),
			Decision{Again: 20 * time.Second},
		},
		{
			"the sooner of two", pod(), up(exited("a", 1, 1), exited("b", 1, 1)).with(func(o *Observed) { o.Crashes = map[string]int{"a": 3, "b": 2} }),
			Decision{Again: 10 * time.Second},
		},
		{
			"old attempts", pod(), up(exited("a", 0, 1), exited("a", 1, 1), ran("a", 2, runtime.Running), run("b")),
			Decision{Actions: []Action{{Kind: Remove, ID: "a/0"}}},
		},

		{
			"liveness", pod(), up(run("a"), run("b")).with(func(o *Observed) { o.Health = map[string]Health{"b/0": {Failed: "dead"}} }),
			Decision{Actions: []Action{{Kind: Stop, ID: "b/0", Reason: "dead", Replace: true}}},
		},
		{
			"liveness, being stopped", pod(), up(run("a"), run("b")).with(func(o *Observed) {
				o.Health, o.Stopping = map[string]Health{"b/0": {Failed: "dead"}}, map[string]bool{"b/0": true}
			}), Decision{},
		},
		{
			"image changed", func() *corev1.Pod { p := pod(); p.Spec.Containers[1].Image = "app:2"; return p }(), up(run("a"), run("b")),
			Decision{Actions: []Action{{Kind: Stop, ID: "b/0", Reason: "container b definition changed", Replace: true}}},
		},
		{
			"to be replaced, and runs on", pod(), up(run("a"), run("b")).with(func(o *Observed) {
				o.Containers[1].Note, o.Replaced = `{"grace":7,"replace":true}`, map[string]bool{"b/0": true}
			}),
			Decision{Actions: []Action{{Kind: Stop, ID: "b/0", Reason: "container b was about to be replaced", Grace: seconds(7), Replace: true}}},
		},
		{
			"stopped for its image, Never", withPolicy(pod(), corev1.RestartPolicyNever), up(run("a"), exited("b", 0, 143)).with(func(o *Observed) { o.Replaced = map[string]bool{"b/0": true} }),
			Decision{Actions: []Action{start("b", 1)}},
		},

		{
			"deleted", going(pod()), up(run("a"), exited("b", 0, 1)),
			Decision{Actions: []Action{{Kind: Stop, ID: "a/0", Reason: deleted}}},
		},
		{"deleted, being stopped", going(pod()), up(run("a")).with(func(o *Observed) { o.Stopping = map[string]bool{"a/0": true} }), Decision{}},
		{"deleted, of unknown state", going(pod()), up(ran("a", 0, runtime.Unknown)), Decision{Actions: []Action{{Kind: Stop, ID: "a/0", Reason: deleted}}}},
		{
			"deleted and stopped", going(pod()), up(exited("a", 0, 143), ran("b", 0, runtime.Created)),
			Decision{Actions: []Action{{Kind: Remove, ID: "a/0"}, {Kind: Remove, ID: "b/0"}, {Kind: Teardown}, {Kind: Report}}},
		},
		{"deleted before anything", going(pod()), Observed{}, Decision{Actions: []Action{{Kind: Teardown}, {Kind: Report}}}},
		{"deleted while pulling", going(pod()), up().with(func(o *Observed) { o.Pulling = map[string]string{"a": "Pulling"} }), Decision{Actions: []Action{{Kind: Teardown}, {Kind: Report}}}},
		{"deleted after its end", going(pod()), Observed{Ended: corev1.PodFailed, Containers: []runtime.Status{exited("a", 0, 1)}}, Decision{Actions: []Action{{Kind: Remove, ID: "a/0"}, {Kind: Teardown}, {Kind: Report}}}},
		{"not bound here", nil, up(run("a")), Decision{Actions: []Action{{Kind: Stop, ID: "a/0", Reason: deleted}}}},
		{"not bound here, nothing runs", nil, Observed{}, Decision{Actions: []Action{{Kind: Teardown}, {Kind: Report}}}},

		{"ended", pod(), up(exited("a", 0, 0)).with(func(o *Observed) { o.Ended = corev1.PodSucceeded }), Decision{Actions: []Action{{Kind: Teardown}}}},
		{"ended and freed", pod(), Observed{Ended: corev1.PodSucceeded, Containers: []runtime.Status{exited("a", 0, 0)}}, Decision{}},
		{
			"ended, and something runs", pod(), up(run("a"), exited("b", 0, 0)).with(func(o *Observed) { o.Ended = corev1.PodFailed }),
			Decision{Actions: []Action{{Kind: Stop, ID: "a/0", Reason: "pod has ended"}}},
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

func seconds(n int64) *int64 { return &n }

func TestCrashes(t *testing.T) {
	long := func(s runtime.Status) runtime.Status {
		s.StartedAt = s.FinishedAt.Add(-crashReset)
		return s
	}
	other := func(s runtime.Status) runtime.Status {
		s.SpecHash = "other"
		return s
	}
	tests := []struct {
		name string
		seen [][]runtime.Status // one after the other
		want int
	}{
		{"runs", [][]runtime.Status{{ran("a", 0, runtime.Running)}}, 0},
		{"exits", [][]runtime.Status{{ran("a", 0, runtime.Running)}, {exited("a", 0, 1)}, {exited("a", 0, 1)}}, 1},
		{"exits unseen", [][]runtime.Status{{exited("a", 0, 1)}}, 1},
		{"exits twice", [][]runtime.Status{{exited("a", 0, 1)}, {exited("a", 0, 1), ran("a", 1, runtime.Running)}, {exited("a", 0, 1), exited("a", 1, 1)}}, 2},
		{"after a long run", [][]runtime.Status{{exited("a", 0, 1)}, {exited("a", 1, 1)}, {long(exited("a", 2, 1))}}, 1},
		{"found running", [][]runtime.Status{{exited("a", 3, 1), ran("a", 4, runtime.Running)}}, 4},
		{"found exited", [][]runtime.Status{{exited("a", 3, 1), exited("a", 4, 1)}}, 5},
		{"found after a long run", [][]runtime.Status{{long(exited("a", 3, 1)), ran("a", 4, runtime.Running)}}, 1},
		{"found after an image change", [][]runtime.Status{{other(exited("a", 3, 1)), ran("a", 4, runtime.Running)}}, 1},
		{"stopped for another image", [][]runtime.Status{{exited("a", 0, 1)}, {other(exited("a", 1, 143))}}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := crashes{}
			for _, containers := range test.seen {
				c.observe(newPod("p", "a"), containers)
			}
			if diff := cmp.Diff(map[string]int{"a": test.want}, c.counts()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
