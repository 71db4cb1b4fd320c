package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// debugged is a pod with an ephemeral container "eye" that looks into a
// container, or into none.
func debugged(pod *corev1.Pod, target string) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "eye", Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent},
		TargetContainerName:      target,
	})
	return pod
}

func TestStepEphemeral(t *testing.T) {
	pod := func(target string) *corev1.Pod { return debugged(newPod("p", "a"), target) }
	start := Decision{Actions: []Action{{Kind: Start, Container: "eye"}}}
	stop := func(reason string) Decision {
		return Decision{Actions: []Action{{Kind: Stop, ID: "eye/0", Reason: reason}}}
	}
	a, eye := ran("a", 0, runtime.Running), ran("eye", 0, runtime.Running)
	with := func(o Observed, ephemeral ...runtime.Status) Observed {
		o.Ephemeral = ephemeral
		return o
	}
	failed := func(o Observed, f Failure) Observed {
		o.Failures = map[string]Failure{"eye": f}
		return o
	}
	never := func(pod *corev1.Pod) *corev1.Pod { return withPolicy(pod, corev1.RestartPolicyNever) }
	tests := []struct {
		name string
		pod  *corev1.Pod
		o    Observed
		want Decision
	}{
		{"with the others", pod(""), up(), Decision{Actions: []Action{{Kind: Start, Container: "a"}, {Kind: Start, Container: "eye"}}}},
		{"added", pod("a"), up(a), start},
		{"while init containers run", withInit(pod(""), "i"), up(ran("i", 0, runtime.Running)), start},
		{"not prepared", pod(""), Observed{Sandbox: true, Containers: []runtime.Status{a}}, Decision{Actions: []Action{{Kind: Prepare}}}},
		{"pulling", pod(""), up(a).with(func(o *Observed) { o.Pulling = map[string]string{"eye": "Pulling"} }), Decision{}},
		{"could not start", pod(""), failed(up(a), Failure{Reason: reasonStart, RetryAt: noon.Add(time.Second)}), Decision{Again: time.Second}},
		{"was refused", pod(""), failed(up(a), Failure{Reason: reasonRefused}), Decision{}},
		{"runs", pod("a"), with(up(a), eye), Decision{}},
		{"exited", pod("a"), with(up(a), exited("eye", 0, 1)), Decision{}},
		{"of unknown state", pod("a"), with(up(a), ran("eye", 0, runtime.Unknown)), Decision{}},
		{"gone, and was known to run", pod("a"), up(a).with(func(o *Observed) { o.Begun = map[string]bool{"eye": true} }), Decision{}},
		{"created and never started", pod(""), with(up(a), ran("eye", 0, runtime.Created)), Decision{Actions: []Action{{Kind: Remove, ID: "eye/0"}}}},
		{"target does not run, not said yet", pod("a"), up(exited("a", 1, 1)).with(func(o *Observed) { o.Crashes = map[string]int{"a": 2} }), Decision{Actions: start.Actions, Again: 10 * time.Second}},
		{"target does not run", pod("a"), failed(up(exited("a", 1, 1)), Failure{Reason: reasonTarget}).with(func(o *Observed) { o.Crashes = map[string]int{"a": 2} }), Decision{Again: 10 * time.Second}},
		{"target runs again", pod("a"), failed(up(exited("a", 1, 1), ran("a", 2, runtime.Running)), Failure{Reason: reasonTarget}), start},

		{"does not keep a pod that ended", never(pod("")), with(up(exited("a", 0, 0)), eye), stop("pod has ended")},
		{"is not started when the pod has ended", never(pod("")), up(exited("a", 0, 0)), Decision{}},
		{"ended", pod(""), with(up(exited("a", 0, 0)), eye).with(func(o *Observed) { o.Ended = corev1.PodSucceeded }), stop("pod has ended")},
		{
			"all anew", allAnew(pod("")), with(up(exited("a", 0, 9)), eye),
			Decision{Actions: []Action{{Kind: Start, Container: "a", Attempt: 1, Round: 1}}},
		},
		{"cut off", pod(""), with(up(exited("a", 0, 0)), eye).with(func(o *Observed) { o.CutOff = true }), stop(cutOffReason)},
		{
			"deleted", going(pod("")), with(up(a), eye),
			Decision{Actions: []Action{{Kind: Stop, ID: "eye/0", Reason: "pod is being deleted"}, {Kind: Stop, ID: "a/0", Reason: "pod is being deleted"}}},
		},
		{"deleted, is the last to end", going(pod("")), with(up(exited("a", 0, 0)), eye).with(func(o *Observed) { o.Stopping = map[string]bool{"eye/0": true} }), Decision{}},
		{
			"deleted, sidecars do not wait for it", going(withSidecar(pod(""), "s")), with(up(exited("a", 0, 0), ran("s", 0, runtime.Running)), eye).with(func(o *Observed) { o.Stopping = map[string]bool{"eye/0": true} }),
			Decision{Actions: []Action{{Kind: Stop, ID: "s/0", Reason: "pod is being deleted"}}},
		},
		{
			"deleted and stopped", going(pod("")), with(up(exited("a", 0, 0)), exited("eye", 0, 137)),
			Decision{Actions: []Action{{Kind: Remove, ID: "a/0"}, {Kind: Remove, ID: "eye/0"}, {Kind: Teardown}, {Kind: Report}}},
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

// allAnew starts all containers of a pod anew when the first exits with 9.
func allAnew(pod *corev1.Pod) *corev1.Pod {
	policy := corev1.ContainerRestartPolicyNever
	pod.Spec.Containers[0].RestartPolicy = &policy
	pod.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{9}},
	}}
	return pod
}

func withSidecar(pod *corev1.Pod, name string) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "app:1", RestartPolicy: &always})
	return pod
}

// TestStatusEphemeral: an ephemeral container has a status of its own and no
// say in its pod's.
func TestStatusEphemeral(t *testing.T) {
	at := metav1.NewTime(noon.Add(-time.Minute))
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}}
	waits := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: 3, Reason: "Error", Message: "why", ContainerID: "containerd://eye/0", StartedAt: at, FinishedAt: metav1.NewTime(noon),
	}}
	lost := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: lostReason, Message: lostMessage, ContainerID: "containerd://eye/0", StartedAt: at,
	}}
	said := func(state corev1.ContainerState) corev1.PodStatus {
		return corev1.PodStatus{EphemeralContainerStatuses: []corev1.ContainerStatus{{Name: "eye", Image: "app:1", ContainerID: "containerd://eye/0", State: state}}}
	}
	up := up(ran("a", 0, runtime.Running)).with(func(o *Observed) { o.Health = map[string]Health{"a/0": {Started: true, Ready: true}} })
	for name, test := range map[string]struct {
		o      Observed
		before corev1.PodStatus
		id     string
		want   corev1.ContainerState
	}{
		"to be started": {o: up, want: waits("ContainerCreating", "")},
		"pulling":       {o: up.with(func(o *Observed) { o.Pulling = map[string]string{"eye": "Pulling 62 %"} }), want: waits("ContainerCreating", "Pulling 62 %")},
		"failed":        {o: up.with(func(o *Observed) { o.Failures = map[string]Failure{"eye": {Reason: "ErrImagePull", Message: "no"}} }), want: waits("ErrImagePull", "no")},
		"runs":          {o: up.with(func(o *Observed) { o.Ephemeral = []runtime.Status{ran("eye", 0, runtime.Running)} }), id: "containerd://eye/0", want: running},
		"exited": {
			o: up.with(func(o *Observed) {
				o.Ephemeral, o.Messages = []runtime.Status{exited("eye", 0, 3)}, map[string]string{"eye/0": "why"}
			}),
			id: "containerd://eye/0", want: ended,
		},
		"refused": {
			o: up.with(func(o *Observed) {
				o.Failures = map[string]Failure{"eye": {Reason: reasonRefused, Message: "no such program", Since: noon}}
			}),
			want: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 128, Reason: "StartError", Message: "no such program", StartedAt: metav1.NewTime(noon), FinishedAt: metav1.NewTime(noon)}},
		},
		"ran, and is gone": {o: up.with(func(o *Observed) { o.Begun = map[string]bool{"eye": true} }), before: said(running), id: "containerd://eye/0", want: lost},
		"exited, and gone": {o: up.with(func(o *Observed) { o.Begun = map[string]bool{"eye": true} }), before: said(ended), id: "containerd://eye/0", want: ended},
	} {
		t.Run(name, func(t *testing.T) {
			status := Status(debugged(newPod("p", "a"), ""), test.o, "", test.before, noon)
			want := []corev1.ContainerStatus{{Name: "eye", Image: "app:1", ContainerID: test.id, State: test.want}}
			if diff := cmp.Diff(want, status.EphemeralContainerStatuses); diff != "" {
				t.Error(diff)
			}
			if c := conditionOf(status.Conditions, corev1.PodReady); status.Phase != corev1.PodRunning || c.Status != corev1.ConditionTrue {
				t.Errorf("pod is %s, ready %s", status.Phase, c.Status)
			}
		})
	}
	t.Run("keeps the pod from being said to have ended", func(t *testing.T) {
		o := Observed{Containers: []runtime.Status{exited("a", 0, 0)}, Ephemeral: []runtime.Status{ran("eye", 0, runtime.Running)}}
		pod := debugged(withPolicy(newPod("p", "a"), corev1.RestartPolicyNever), "")
		if s := Status(pod, o, "", corev1.PodStatus{Phase: corev1.PodRunning}, noon); s.Phase != corev1.PodRunning {
			t.Errorf("pod is %s", s.Phase)
		}
		o.Ephemeral[0] = exited("eye", 0, 1)
		if s := Status(pod, o, "", corev1.PodStatus{Phase: corev1.PodRunning}, noon); s.Phase != corev1.PodSucceeded {
			t.Errorf("pod is %s", s.Phase)
		}
	})
}

// eye is the state of the ephemeral container of a pod.
func (w *world) eye(pod *corev1.Pod) string {
	for _, c := range w.said(pod).Status.EphemeralContainerStatuses {
		switch {
		case c.State.Running != nil:
			return "running"
		case c.State.Terminated != nil:
			return c.State.Terminated.Reason
		case c.State.Waiting != nil:
			return c.State.Waiting.Reason
		}
	}
	return ""
}

func (w *world) wantEye(pod *corev1.Pod, want string) {
	w.t.Helper()
	if got := w.eye(pod); got != want {
		w.t.Errorf("the ephemeral container is %q, want %q\n%s", got, want, w.runtime.Dump())
	}
}

// TestEphemeralOnce: an ephemeral container is started once, whatever becomes
// of it and of the agent.
func TestEphemeralOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		plain := newPod("a", "main")
		pod := debugged(plain, "main")
		w.start()
		w.bind(plain)
		main, starts := w.runtime.Find(string(pod.UID), "main"), w.runtime.Calls("Start")
		w.bind(pod)
		w.wantEye(pod, "running")
		id := w.runtime.Find(string(pod.UID), "eye")
		target := w.pid(main)
		if spec, _ := w.runtime.Spec(id); spec.Namespaces.PID != processNamespace(target) || spec.Namespaces.Net == "" {
			t.Errorf("started in %+v, want the processes of %d", spec.Namespaces, target)
		}
		w.exit(pod, "eye", 3)
		w.pass(time.Hour)
		w.wantEye(pod, "Error")
		w.wantState(pod, "Running main=running,ready,0")
		w.kill()
		w.start()
		w.pass(time.Hour)
		w.wantEye(pod, "Error")
		w.kill()
		if err := w.runtime.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.pass(time.Hour)
		w.wantEye(pod, "Error")
		if n := w.runtime.Calls("Start") - starts; n != 1 {
			t.Errorf("%d starts of an ephemeral container", n)
		}
		w.delete(pod, 30)
		w.pass(time.Minute)
		w.wantNothing(pod)
	})
}

// pid is the process of a container that runs.
func (w *world) pid(id string) int {
	w.t.Helper()
	list, err := w.runtime.Containers(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range list {
		if c.ID == id && c.PID != 0 {
			return c.PID
		}
	}
	w.t.Fatalf("%s does not run", id)
	return 0
}

// TestEphemeralRefused: a start that the OCI runtime refuses was the only one.
func TestEphemeralRefused(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := debugged(newPod("a", "main"), "")
		w.start()
		w.bind(newPod("a", "main"))
		starts := w.runtime.Calls("Start")
		w.runtime.FailNext("Start", fmt.Errorf("start eye: %w: no such program", runtime.ErrStart))
		w.bind(pod)
		w.wantEye(pod, reasonRefused)
		w.pass(time.Hour)
		w.kill()
		w.start()
		w.pass(time.Hour)
		w.wantEye(pod, reasonRefused)
		if n := w.runtime.Calls("Start") - starts; n != 1 {
			t.Errorf("%d starts of an ephemeral container", n)
		}
		w.wantState(pod, "Running main=running,ready,0")
	})
}

// TestEphemeralTarget: what is to look into a container waits for it, says so,
// and looks into the one that then runs.
func TestEphemeralTarget(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := debugged(newPod("a", "main", "side"), "main")
		w.start()
		w.bind(newPod("a", "main", "side"))
		for range 2 { // the second exit is not followed by a start at once
			w.exit(pod, "main", 1)
		}
		w.bind(pod)
		w.wantEye(pod, reasonTarget)
		w.wantEvent(pod, "Failed: target container main: it does not run, and the ephemeral container is started when it does")
		w.pass(5 * time.Second)
		w.wantEye(pod, reasonTarget)
		told := slices.DeleteFunc(w.events(pod), func(e string) bool { return !strings.Contains(e, "target") })
		if len(told) != 1 {
			t.Errorf("said %d times: %v", len(told), told)
		}
		w.pass(6 * time.Second)
		w.wantEye(pod, "running")
		spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "eye"))
		if want := processNamespace(w.pid(w.runtime.Find(string(pod.UID), "main"))); spec.Namespaces.PID != want {
			t.Errorf("looks into %s, want %s", spec.Namespaces.PID, want)
		}
	})
}

// TestEphemeralEndsWithPod: a pod whose containers are through ends, and takes
// who looks into it along.
func TestEphemeralEndsWithPod(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := debugged(withPolicy(newPod("a", "main"), corev1.RestartPolicyNever), "")
		w.runtime.IgnoreSIGTERM("eye")
		w.start()
		w.bind(pod)
		w.wantEye(pod, "running")
		w.exit(pod, "main", 0)
		w.wantState(pod, "Running main=Completed,0")
		w.pass(31 * time.Second)
		w.wantState(pod, "Succeeded main=Completed,0")
		w.wantEye(pod, "Error")
		if spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "eye")); spec.Namespaces.PID != "" {
			t.Errorf("without a target it is in %s", spec.Namespaces.PID)
		}
		synctest.Wait()
	})
}
