package nodeagent

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Doom is why a pod must fail although its containers may run.
type Doom struct {
	Reason, Message string
	Grace           *time.Duration // that its containers have; nil: the pod's own
	Disrupted       bool           // the node wants it: the pod gets the condition DisruptionTarget
}

// reasonDeadline is as the kubelet gives it.
const reasonDeadline = "DeadlineExceeded"

// doomOf is why a pod must fail now, or nil: somebody said so, or it was
// active for longer than it may be.
func doomOf(pod *corev1.Pod, o Observed, now time.Time) *Doom {
	if o.Doom != nil {
		return o.Doom
	}
	if doom := refusal(pod); doom != nil {
		return doom
	}
	if len(o.Containers) == 0 { // what runs is not judged again
		if doom := unenforceable(pod, o.AppArmor); doom != nil {
			return doom
		}
	}
	if left, limited := activeLeft(pod, o, now); limited && left <= 0 {
		return &Doom{Reason: reasonDeadline, Message: "Pod was active on the node longer than the specified deadline"}
	}
	return nil
}

// activeLeft is how long a pod may still be active, if it is limited.
func activeLeft(pod *corev1.Pod, o Observed, now time.Time) (left time.Duration, limited bool) {
	seconds := pod.Spec.ActiveDeadlineSeconds
	if seconds == nil || o.Since.IsZero() {
		return 0, false
	}
	return o.Since.Add(time.Duration(*seconds) * time.Second).Sub(now), true
}

// finishing says why nothing of a pod is started any more, or "": it must
// fail, an init container failed for good, or all its containers have ended
// for good. Sidecars do not keep a pod.
func finishing(pod *corev1.Pod, o Observed, now time.Time) (why string) {
	if doom := doomOf(pod, o, now); doom != nil {
		return doom.Message
	}
	r := roundsOf(pod, o)
	current := r.present(o)
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if last := latest(current, c.Name); !isSidecar(c) && last != nil && last.ExitCode != 0 && endedForGood(pod, c, last, o) {
			return "init container " + c.Name + " has failed"
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if last := latest(current, c.Name); last == nil || !endedForGood(pod, c, last, o) {
			return ""
		}
	}
	return "pod has ended"
}

func endedForGood(pod *corev1.Pod, c *corev1.Container, last *runtime.Status, o Observed) bool {
	return last.State == runtime.Exited && !o.Replaced[last.ID] && !restartsAfter(pod, c, last.ExitCode)
}

// stopInTurn stops what runs of a pod: all containers but sidecars at once,
// and then the sidecars, the last one first, each when those before it have
// ended. Without grace nothing waits (Kubernetes: "Termination with
// sidecars"). Ephemeral containers are stopped at once, and nothing waits for
// them.
func (d *Decision) stopInTurn(pod *corev1.Pod, o Observed, reason string) {
	d.stopEphemeral(o, reason)
	var others, sidecars []*runtime.Status
	last := -1
	for i := range o.Containers {
		c := &o.Containers[i]
		place := sidecarPlace(pod, c.Name)
		switch {
		case !isUp(c):
		case place < 0:
			others = append(others, c)
		case place > last:
			last, sidecars = place, []*runtime.Status{c}
		}
	}
	if pod != nil && graceOf(pod) == 0 {
		others, sidecars = allUp(o), nil
	}
	if len(others) == 0 {
		others = sidecars
	}
	for _, c := range others {
		if !o.Stopping[c.ID] {
			d.Actions = append(d.Actions, Action{Kind: Stop, ID: c.ID, Reason: reason})
		}
	}
}

func allUp(o Observed) []*runtime.Status {
	var out []*runtime.Status
	for i := range o.Containers {
		if isUp(&o.Containers[i]) {
			out = append(out, &o.Containers[i])
		}
	}
	return out
}

// sidecarPlace is where a sidecar stands among a pod's init containers; -1 for
// other containers.
func sidecarPlace(pod *corev1.Pod, name string) int {
	if pod == nil {
		return -1
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name && isSidecar(c) {
			return i
		}
	}
	return -1
}

// graceOf is how long a pod's containers have between the request and SIGKILL.
func graceOf(pod *corev1.Pod) time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		seconds = *s
	}
	return time.Duration(seconds) * time.Second
}
