package nodeagent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func TestContainerStatus(t *testing.T) {
	yes, no := true, false
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(noon.Add(d)) }
	base := func(change func(*corev1.ContainerStatus)) corev1.ContainerStatus {
		s := corev1.ContainerStatus{Name: "a", Image: "app:1", Started: &no}
		change(&s)
		return s
	}
	waits := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	terminated := func(id, reason string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ContainerID: "containerd://" + id, Reason: reason, ExitCode: code, StartedAt: at(-time.Minute), FinishedAt: at(0),
		}}
	}
	oom := exited("a", 0, 137)
	oom.OOMKilled = true
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(-time.Minute)}}
	tests := []struct {
		name string
		pod  *corev1.Pod
		o    Observed
		want corev1.ContainerStatus
	}{
		{"to be created", newPod("p", "a"), up(), base(func(s *corev1.ContainerStatus) { s.State = waits("ContainerCreating", "") })},
		{
			"image on its way", newPod("p", "a"), up().with(func(o *Observed) { o.Pulling = map[string]string{"a": "Pulling 62 %"} }),
			base(func(s *corev1.ContainerStatus) { s.State = waits("ContainerCreating", "Pulling 62 %") }),
		},
		{"behind init", withInit(newPod("p", "a"), "i"), up(), base(func(s *corev1.ContainerStatus) { s.State = waits("PodInitializing", "") })},
		{
			"image missing", newPod("p", "a"), up().with(func(o *Observed) {
				o.Failures = map[string]Failure{"a": {Reason: "ErrImagePull", Message: "no such host"}}
			}), base(func(s *corev1.ContainerStatus) { s.State = waits("ErrImagePull", "no such host") }),
		},
		{
			"runs, not probed", newPod("p", "a"), up(ran("a", 0, runtime.Running)),
			base(func(s *corev1.ContainerStatus) { s.State, s.ContainerID = running, "containerd://a/0" }),
		},
		{
			"runs, started", newPod("p", "a"), up(ran("a", 0, runtime.Running)).with(func(o *Observed) { o.Health = map[string]Health{"a/0": {Started: true}} }),
			base(func(s *corev1.ContainerStatus) { s.State, s.ContainerID, s.Started = running, "containerd://a/0", &yes }),
		},
		{
			"ready, restarted", newPod("p", "a"), up(exited("a", 1, 1), ran("a", 2, runtime.Running)).with(func(o *Observed) { o.Health = map[string]Health{"a/2": {Started: true, Ready: true}} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID, s.Started, s.Ready, s.RestartCount = running, "containerd://a/2", &yes, true, 2
				s.LastTerminationState = terminated("a/1", "Error", 1)
			}),
		},
		{
			"unknown keeps what was said", newPod("p", "a"), up(ran("a", 0, runtime.Unknown)).with(func(o *Observed) { o.Health = map[string]Health{"a/0": {Started: true, Ready: true}} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID, s.Started, s.Ready = running, "containerd://a/0", &yes, true
			}),
		},
		{
			"completed", withPolicy(newPod("p", "a"), corev1.RestartPolicyNever), up(exited("a", 0, 0)),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID = terminated("a/0", "Completed", 0), "containerd://a/0"
			}),
		},
		{
			"out of memory", withPolicy(newPod("p", "a"), corev1.RestartPolicyNever), up(oom).with(func(o *Observed) { o.Messages = map[string]string{"a/0": "bye"} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID = terminated("a/0", "OOMKilled", 137), "containerd://a/0"
				s.State.Terminated.Message = "bye"
			}),
		},
		{
			"crash loop", newPod("p", "a"), up(exited("a", 1, 2)).with(func(o *Observed) { o.Crashes = map[string]int{"a": 2} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID, s.RestartCount = waits("CrashLoopBackOff", "back-off 10s restarting container a of pod default/p"), "containerd://a/1", 1
				s.LastTerminationState = terminated("a/1", "Error", 2)
			}),
		},
		{
			"crashed, and going", going(newPod("p", "a")), up(exited("a", 1, 2)).with(func(o *Observed) { o.Crashes = map[string]int{"a": 2} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID, s.RestartCount = terminated("a/1", "Error", 2), "containerd://a/1", 1
			}),
		},
		{
			"stopped for another image, Never", withPolicy(newPod("p", "a"), corev1.RestartPolicyNever), up(exited("a", 0, 143)).with(func(o *Observed) { o.Replaced = map[string]bool{"a/0": true} }),
			base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID = waits("ContainerCreating", ""), "containerd://a/0"
				s.LastTerminationState = terminated("a/0", "Error", 143)
			}),
		},
		{
			"restart fails", newPod("p", "a"), up(exited("a", 0, 1)).with(func(o *Observed) {
				o.Failures = map[string]Failure{"a": {Reason: "RunContainerError", Message: "no such file"}}
			}), base(func(s *corev1.ContainerStatus) {
				s.State, s.ContainerID = waits("RunContainerError", "no such file"), "containerd://a/0"
				s.LastTerminationState = terminated("a/0", "Error", 1)
			}),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Status(test.pod, test.o, "192.168.0.1", corev1.PodStatus{}, noon)
			if diff := cmp.Diff(test.want, got.ContainerStatuses[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// conditions in one line each, in the order they have.
func conditionsOf(s corev1.PodStatus) []string {
	var out []string
	for _, c := range s.Conditions {
		out = append(out, string(c.Type)+"="+string(c.Status)+" "+c.Reason+" "+c.LastTransitionTime.UTC().Format("15:04:05"))
	}
	return out
}

func TestConditions(t *testing.T) {
	pod := withInit(withPolicy(newPod("p", "a"), corev1.RestartPolicyNever), "i")
	ready := map[string]Health{"a/0": {Started: true, Ready: true}}
	steps := []struct {
		name  string
		o     Observed
		phase corev1.PodPhase
		want  []string
	}{
		{"bound", Observed{}, corev1.PodPending, []string{"PodReadyToStartContainers=False PodSandboxNotReady 12:00:00", "Initialized=False ContainersNotInitialized 12:00:00", "ContainersReady=False ContainersNotReady 12:00:00", "Ready=False ContainersNotReady 12:00:00"}},
		{"prepared", up(), corev1.PodPending, []string{"PodReadyToStartContainers=True  12:00:01", "Initialized=False ContainersNotInitialized 12:00:00", "ContainersReady=False ContainersNotReady 12:00:00", "Ready=False ContainersNotReady 12:00:00"}},
		{"initialised", up(exited("i", 0, 0), ran("a", 0, runtime.Running)), corev1.PodRunning, []string{"PodReadyToStartContainers=True  12:00:01", "Initialized=True  12:00:02", "ContainersReady=False ContainersNotReady 12:00:00", "Ready=False ContainersNotReady 12:00:00"}},
		{"ready", up(exited("i", 0, 0), ran("a", 0, runtime.Running)).with(func(o *Observed) { o.Health = ready }), corev1.PodRunning, []string{"PodReadyToStartContainers=True  12:00:01", "Initialized=True  12:00:02", "ContainersReady=True  12:00:03", "Ready=True  12:00:03"}},
		{"failed", up(exited("i", 0, 0), exited("a", 0, 1)), corev1.PodFailed, []string{"PodReadyToStartContainers=True  12:00:01", "Initialized=True  12:00:02", "ContainersReady=False PodFailed 12:00:04", "Ready=False PodFailed 12:00:04"}},
		{"never back", up(exited("i", 0, 0), ran("a", 0, runtime.Running)).with(func(o *Observed) { o.Health = ready }), corev1.PodFailed, []string{"PodReadyToStartContainers=True  12:00:01", "Initialized=True  12:00:02", "ContainersReady=False PodFailed 12:00:04", "Ready=False PodFailed 12:00:04"}},
	}
	var before corev1.PodStatus
	for i, step := range steps {
		before = Status(pod, step.o, "192.168.0.1", before, noon.Add(time.Duration(i)*time.Second))
		if diff := cmp.Diff(step.want, conditionsOf(before)); diff != "" || before.Phase != step.phase {
			t.Errorf("%s: phase %s, conditions %s", step.name, before.Phase, diff)
		}
		if !before.StartTime.Equal(stamp(noon)) {
			t.Errorf("%s: start time %v", step.name, before.StartTime)
		}
	}
}

func TestGoingPodEnds(t *testing.T) {
	for code, want := range map[int]corev1.PodPhase{0: corev1.PodSucceeded, 143: corev1.PodFailed} {
		if got := Status(going(newPod("p", "a")), up(exited("a", 0, code)), "", corev1.PodStatus{}, noon).Phase; got != want {
			t.Errorf("exit code %d: got %s, want %s", code, got, want)
		}
	}
}
