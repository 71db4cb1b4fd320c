package nodeagent

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// isSidecar reports whether an init container is one that runs beside the
// others (Kubernetes: "Sidecar Containers"). Of a container that is no init
// container it says nothing.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

// restartsAfter reports whether a container that exited is to be started
// again: by the first of its rules that fits, its own policy, or its pod's. A
// sidecar always is, another init container only if it failed (Kubernetes:
// Container.restartPolicy, restartPolicyRules).
func restartsAfter(pod *corev1.Pod, c *corev1.Container, exitCode int) bool {
	if isInit(pod, c.Name) {
		if isSidecar(c) {
			return true
		}
		if exitCode == 0 {
			return false
		}
	}
	if c.RestartPolicy == nil {
		return policyRestarts(pod.Spec.RestartPolicy, exitCode)
	}
	switch ruleFor(c, exitCode) {
	case corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers:
		return true
	}
	return policyRestarts(corev1.RestartPolicy(*c.RestartPolicy), exitCode)
}

func policyRestarts(policy corev1.RestartPolicy, exitCode int) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// ruleFor is what the first rule that fits an exit code asks for, or "".
func ruleFor(c *corev1.Container, exitCode int) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, int32(exitCode))
		switch rule.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if listed {
				return rule.Action
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !listed {
				return rule.Action
			}
		}
	}
	return ""
}

// restartsIll reports whether a container that is stopped because a probe
// failed is to be started again. No rule counts: it has no exit code yet.
func restartsIll(pod *corev1.Pod, c *corev1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != corev1.ContainerRestartPolicyNever
	}
	return pod.Spec.RestartPolicy != corev1.RestartPolicyNever
}

// canRestartAll reports whether a container of the pod has a rule that starts
// all of them anew.
func canRestartAll(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
				return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
			}) {
				return true
			}
		}
	}
	return false
}

// rounds tells apart the containers of a pod that were started before and
// after an exit that asked for all to be started anew.
type rounds struct {
	now   int             // number of the present round
	cause *runtime.Status // whose exit began it; nil if it is the first, or that is forgotten
}

// roundsOf finds the last exit that asked for all containers to be started
// anew (Kubernetes: RestartAllContainers).
func roundsOf(pod *corev1.Pod, o Observed) rounds {
	var r rounds
	if !canRestartAll(pod) {
		return r
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		r.now = max(r.now, c.Round)
		if c.State != runtime.Exited || o.Replaced[c.ID] {
			continue
		}
		if ruleFor(containerNamed(pod, c.Name), c.ExitCode) == corev1.ContainerRestartRuleActionRestartAllContainers {
			if r.cause == nil || c.Round > r.cause.Round {
				r.cause = c
			}
			r.now = max(r.now, c.Round+1)
		}
	}
	return r
}

// past reports whether a container belongs to an earlier round.
func (r rounds) past(c *runtime.Status) bool { return c.Round < r.now }

// running reports whether a container of an earlier round has not ended yet.
func (r rounds) running(o Observed) bool {
	return slices.ContainsFunc(o.Containers, func(c runtime.Status) bool { return r.past(&c) && isUp(&c) })
}

// notBefore is when the present round may start its containers.
func (r rounds) notBefore(o Observed) time.Time {
	if r.cause == nil {
		return time.Time{}
	}
	return r.cause.FinishedAt.Add(CrashDelay(o.Crashes[r.cause.Name]))
}

// present is what is observed, without the containers of earlier rounds.
func (r rounds) present(o Observed) Observed {
	if r.now == 0 {
		return o
	}
	o.Containers = slices.DeleteFunc(slices.Clone(o.Containers), func(c runtime.Status) bool { return r.past(&c) })
	return o
}

// isUp reports whether a container has a process, as far as is known.
func isUp(c *runtime.Status) bool { return c.State == runtime.Running || c.State == runtime.Unknown }

// anyUp reports whether any container has one.
func anyUp(o Observed) bool {
	return slices.ContainsFunc(o.all(), func(c runtime.Status) bool { return isUp(&c) })
}
