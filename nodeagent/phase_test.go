package nodeagent

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The states that a container's status can have, and the first letter of each
// in the table of TestPhase.
func phaseStatus(letter rune) corev1.ContainerStatus {
	yes := true
	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	switch letter {
	case 'w': // waits for its first start
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
	case 'b': // backs off between two runs
		return corev1.ContainerStatus{ContainerID: "x", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}, LastTerminationState: ended(1)}
	case 'r', 's': // runs; is started too
		s := corev1.ContainerStatus{ContainerID: "x", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		if letter == 's' {
			s.Started = &yes
		}
		return s
	case '0':
		return corev1.ContainerStatus{ContainerID: "x", State: ended(0)}
	case '1', '7':
		return corev1.ContainerStatus{ContainerID: "x", State: ended(letter - '0')}
	}
	panic(fmt.Sprintf("no state %c", letter))
}

func phaseStatuses(letters string) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i, letter := range letters {
		s := phaseStatus(letter)
		s.Name = fmt.Sprint(i)
		out = append(out, s)
	}
	return out
}

func TestPhase(t *testing.T) {
	const pending, runs, succeeded, failed = corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed
	always := corev1.ContainerRestartPolicyAlways
	never := corev1.ContainerRestartPolicyNever
	rule := func(action corev1.ContainerRestartRuleAction, values ...int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].RestartPolicy = &never
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
				Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: values},
			}}
		}
	}
	sidecar := func(p *corev1.Pod) { p.Spec.InitContainers[0].RestartPolicy = &always }
	plain := func(*corev1.Pod) {}
	tests := []struct {
		name                                   string
		change                                 func(*corev1.Pod)
		init, containers                       string
		wantAlways, onFailure, wantNever, ends corev1.PodPhase // ends: nothing starts again
	}{
		{"nothing started", plain, "", "ww", pending, pending, pending, pending},
		{"one to start", plain, "", "rw", pending, pending, pending, pending},
		{"one ended, one to start", plain, "", "0w", pending, pending, pending, pending},
		{"all run", plain, "", "rr", runs, runs, runs, runs},
		{"one succeeded", plain, "", "r0", runs, runs, runs, runs},
		{"one failed", plain, "", "r1", runs, runs, runs, runs},
		{"one backs off", plain, "", "rb", runs, runs, runs, runs},
		{"all back off", plain, "", "bb", runs, runs, runs, runs},
		{"all succeeded", plain, "", "00", runs, succeeded, succeeded, succeeded},
		{"all ended, one failed", plain, "", "01", runs, runs, failed, failed},
		{"all failed", plain, "", "1", runs, runs, failed, failed},

		{"init waits", plain, "w", "w", pending, pending, pending, pending},
		{"init runs", plain, "0r", "w", pending, pending, pending, pending},
		{"init failed", plain, "1", "w", pending, pending, failed, failed},
		{"init backs off", plain, "b", "w", pending, pending, pending, pending},
		{"init done", plain, "0", "w", pending, pending, pending, pending},
		{"init done, all run", plain, "0", "r", runs, runs, runs, runs},
		{"init forgotten, all run", plain, "w", "r", runs, runs, runs, runs},
		{"init runs again, in a new round", plain, "r", "b", runs, runs, runs, runs},

		{"sidecar waits", sidecar, "w", "w", pending, pending, pending, pending},
		{"sidecar runs, not started", sidecar, "r", "w", pending, pending, pending, pending},
		{"sidecar started, init runs", sidecar, "sr", "w", pending, pending, pending, pending},
		{"sidecar and all run", sidecar, "s", "r", runs, runs, runs, runs},
		{"sidecar starts again", sidecar, "r", "r", runs, runs, runs, runs},
		{"sidecar backs off", sidecar, "b", "r", runs, runs, runs, runs},
		{"sidecar outlives success", sidecar, "s", "0", runs, runs, runs, runs},
		{"sidecar ended after success", sidecar, "7", "0", runs, succeeded, succeeded, succeeded},
		{"sidecar ended before the others began", sidecar, "1", "w", pending, pending, pending, pending},

		{"rule restarts", rule(corev1.ContainerRestartRuleActionRestart, 7), "", "7", runs, runs, runs, failed},
		{"rule does not fit", rule(corev1.ContainerRestartRuleActionRestart, 7), "", "1", failed, failed, failed, failed},
		{"rule restarts all", rule(corev1.ContainerRestartRuleActionRestartAllContainers, 7), "", "70", runs, runs, runs, failed},
		{"own policy Never", rule(corev1.ContainerRestartRuleActionRestart), "", "0", succeeded, succeeded, succeeded, succeeded},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			init, containers := phaseStatuses(test.init), phaseStatuses(test.containers)
			for policy, want := range map[corev1.RestartPolicy]corev1.PodPhase{
				corev1.RestartPolicyAlways: test.wantAlways, corev1.RestartPolicyOnFailure: test.onFailure, corev1.RestartPolicyNever: test.wantNever,
			} {
				pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy}}
				for i := range init {
					pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: init[i].Name})
				}
				for i := range containers {
					pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: containers[i].Name})
				}
				test.change(pod)
				if test.init != "" {
					for i := range pod.Spec.InitContainers {
						pod.Spec.InitContainers[i].Name = fmt.Sprint("i", i)
						init[i].Name = pod.Spec.InitContainers[i].Name
					}
				}
				if got := Phase(pod, false, init, containers); got != want {
					t.Errorf("%s: got %s, want %s", policy, got, want)
				}
				if got := Phase(pod, true, init, containers); got != test.ends {
					t.Errorf("%s, ending: got %s, want %s", policy, got, test.ends)
				}
			}
		})
	}
}
