package pressure

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resources "k8s.io/component-helpers/resource"
)

// Reason is the reason of an evicted pod's status and of its event.
const Reason = "Evicted"

// Eviction is the end of a pod.
type Eviction struct {
	Message string        // of the pod's status, in the kubelet's words
	Advice  string        // what can be done, for the event
	Grace   time.Duration // for its containers to end by themselves
	// Disrupted says that the node wanted it, not the pod's own doing: the pod
	// gets the condition DisruptionTarget.
	Disrupted bool
}

// Message says why a pod is evicted, in the kubelet's words.
func Message(p Pod, act []Threshold, o Observations) string {
	name := act[0].Signal.Resource()
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. ", name)
	for _, t := range act {
		seen, known := o[t.Signal]
		if t.Signal.Resource() != name || !known {
			continue
		}
		fmt.Fprintf(&b, "Threshold quantity: %s, available: %s. ", bytes(t.least(seen.Capacity, false)), bytes(seen.Available))
		break
	}
	if p.Usage == nil {
		return b.String()
	}
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		used, known := p.Usage.Containers[c.Name]
		if !known {
			continue
		}
		var usage int64
		switch name {
		case corev1.ResourceMemory:
			usage = used.Memory
		case corev1.ResourceEphemeralStorage:
			usage = used.Rootfs.Bytes + used.Logs.Bytes
		}
		asked := c.Resources.Requests[name]
		if usage > asked.Value() {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, bytes(usage), asked.String(), name)
		}
	}
	return b.String()
}

// Evict says how a pod goes for a threshold. A hard one gives no grace, a soft
// one the pod's own, at most maxGrace.
func Evict(p Pod, act []Threshold, o Observations, maxGrace time.Duration) Eviction {
	e := Eviction{
		Message: Message(p, act, o), Grace: immediately, Disrupted: true,
		Advice: "A pod that asks for what it uses, or has a higher priority, goes later.",
	}
	if act[0].Grace > 0 {
		e.Grace = maxGrace
		if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
			e.Grace = min(e.Grace, time.Duration(*s)*time.Second)
		}
	}
	return e
}

// immediately is what the kubelet gives to a pod that must go now.
const immediately = time.Second

// HasDiskLimits reports whether a pod may use only so much disk, so that it
// has to be measured.
func HasDiskLimits(pod *corev1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if limitOf(v) > 0 {
			return true
		}
	}
	_, limited := resources.PodLimits(pod, resources.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return limited
}

// limitOf is the size limit of an emptyDir on disk; the kernel holds those in
// memory to theirs.
func limitOf(v corev1.Volume) int64 {
	if v.EmptyDir == nil || v.EmptyDir.Medium == corev1.StorageMediumMemory || v.EmptyDir.SizeLimit == nil {
		return 0
	}
	return v.EmptyDir.SizeLimit.Value()
}

// OverLimit says why a pod must go because it uses more disk than it may: an
// emptyDir over its sizeLimit, all together over the pod's limit of
// ephemeral-storage, or a container over its own.
func OverLimit(p Pod, separateImages bool) (Eviction, bool) {
	if p.Usage == nil {
		return Eviction{}, false
	}
	for _, v := range p.Spec.Volumes {
		if limit := limitOf(v); limit > 0 && p.Usage.Volumes[v.Name].Bytes > limit {
			return over("Let it write less, or raise the volume's sizeLimit.", "Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	limit, limited := resources.PodLimits(p.Pod, resources.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	if limited && p.Usage.disk(places{true, true, true}).Bytes > limit.Value() {
		return over(raiseLimit, "Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, c := range slices.Concat(p.Spec.Containers, sidecars(p.Pod)) {
		limit := c.Resources.Limits.StorageEphemeral()
		used := p.Usage.Containers[c.Name].Logs.Bytes
		if !separateImages {
			used += p.Usage.Containers[c.Name].Rootfs.Bytes
		}
		if !limit.IsZero() && used > limit.Value() {
			return over(raiseLimit, "Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return Eviction{}, false
}

const raiseLimit = "Let it write and log less, or raise its limit of ephemeral-storage."

func over(advice, format string, args ...any) (Eviction, bool) {
	return Eviction{Message: fmt.Sprintf(format, args...), Advice: advice, Grace: immediately}, true
}

func sidecars(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

// Admit decides whether a pod that has not run yet may start on a node with
// some conditions: under memory pressure alone, all but best-effort pods that
// do not tolerate it may; under any other, none but critical ones.
func Admit(pod *corev1.Pod, class corev1.PodQOSClass, conditions []corev1.NodeConditionType) (e Eviction, ok bool) {
	switch {
	case len(conditions) == 0, IsCritical(pod):
		return Eviction{}, true
	case len(conditions) == 1 && conditions[0] == corev1.NodeMemoryPressure && (class != corev1.PodQOSBestEffort || tolerates(pod)):
		return Eviction{}, true
	}
	return Eviction{Message: fmt.Sprintf("The node had condition: %v. ", conditions), Advice: "Free what the node is short of, or run the pod elsewhere."}, false
}

func tolerates(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		key := t.Key == corev1.TaintNodeMemoryPressure && (t.Operator == corev1.TolerationOpExists || t.Value == "")
		all := t.Key == "" && t.Operator == corev1.TolerationOpExists
		return (key || all) && (t.Effect == "" || t.Effect == corev1.TaintEffectNoSchedule)
	})
}
