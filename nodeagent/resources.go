package nodeagent

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

// The kernel's limits of CPU settings.
const (
	cpuPeriod = 100000 // µs, its default
	minQuota  = 1000
	minShares = 2
	maxShares = 262144
)

// resourcesOf turns a container's requests and limits into cgroup settings as
// the kubelet does. Where it has no limit, its pod's counts.
func (m machine) resourcesOf(pod *corev1.Pod, c *corev1.Container) runtime.Resources {
	cpu, memory := c.Resources.Limits.Cpu().MilliValue(), c.Resources.Limits.Memory().Value()
	if whole := pod.Spec.Resources; whole != nil {
		if cpu == 0 {
			cpu = whole.Limits.Cpu().MilliValue()
		}
		if memory == 0 {
			memory = whole.Limits.Memory().Value()
		}
	}
	request := cpu
	if q, asked := c.Resources.Requests[corev1.ResourceCPU]; asked {
		request = q.MilliValue()
	}
	r := runtime.Resources{CPUShares: shares(request), MemoryLimit: memory, OOMScoreAdj: m.oomScoreAdj(pod, c)}
	r.CPUQuota, r.CPUPeriod = quota(cpu)
	return r
}

// podResources are the settings of the cgroup that holds all of a pod's
// containers: they share the CPU by what the pods ask for, and a pod has a
// limit if all of its containers have, or it has one itself.
func podResources(pod *corev1.Pod) runtime.Resources {
	request := total(pod, func(c *corev1.Container) int64 { return c.Resources.Requests.Cpu().MilliValue() })
	cpu, memory := int64(0), int64(0)
	if limited(pod, corev1.ResourceCPU) {
		cpu = total(pod, func(c *corev1.Container) int64 { return c.Resources.Limits.Cpu().MilliValue() })
	}
	if limited(pod, corev1.ResourceMemory) {
		memory = total(pod, func(c *corev1.Container) int64 { return c.Resources.Limits.Memory().Value() })
	}
	if whole := pod.Spec.Resources; whole != nil {
		if q, asked := whole.Requests[corev1.ResourceCPU]; asked {
			request = q.MilliValue()
		}
		if q, set := whole.Limits[corev1.ResourceCPU]; set {
			cpu = q.MilliValue()
		}
		if q, set := whole.Limits[corev1.ResourceMemory]; set {
			memory = q.Value()
		}
	}
	r := runtime.Resources{CPUShares: shares(request), MemoryLimit: memory}
	r.CPUQuota, r.CPUPeriod = quota(cpu)
	return r
}

// limited reports whether all containers of a pod have a limit.
func limited(pod *corev1.Pod, name corev1.ResourceName) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if q := list[i].Resources.Limits[name]; q.IsZero() {
				return false
			}
		}
	}
	return true
}

// total is what a pod's containers come to: the sum of those that run
// together, or what an init container has beside the sidecars before it, where
// that is more.
func total(pod *corev1.Pod, of func(*corev1.Container) int64) int64 {
	var sidecars, most, sum int64
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if isSidecar(c) {
			sidecars += of(c)
			most = max(most, sidecars)
		} else {
			most = max(most, sidecars+of(c))
		}
	}
	for i := range pod.Spec.Containers {
		sum += of(&pod.Spec.Containers[i])
	}
	return max(most, sum+sidecars)
}

func shares(milli int64) uint64 {
	return uint64(min(maxShares, max(minShares, milli*1024/1000)))
}

func quota(milli int64) (quota int64, period uint64) {
	if milli <= 0 {
		return 0, 0
	}
	return max(minQuota, milli*cpuPeriod/1000), cpuPeriod
}

// oomScoreAdj decides who is killed first when memory runs out (Kubernetes:
// "Node out of memory behavior"). A sidecar goes no sooner than the container
// of its pod that asks for least.
func (m machine) oomScoreAdj(pod *corev1.Pod, c *corev1.Container) int {
	switch schema.QOSClass(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if m.memory == 0 {
		return 999
	}
	request := c.Resources.Requests.Memory().Value()
	if sidecarPlace(pod, c.Name) >= 0 {
		least := int64(math.MaxInt64)
		for i := range pod.Spec.Containers {
			least = min(least, pod.Spec.Containers[i].Resources.Requests.Memory().Value())
		}
		request = max(request, least)
	}
	request += spareMemory(pod)
	return int(min(999, max(3, 1000-1000*request/m.memory)))
}

// spareMemory is a container's share of what its pod asks for beyond what the
// containers do.
func spareMemory(pod *corev1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	whole := pod.Spec.Resources.Requests.Memory().Value()
	asked := total(pod, func(c *corev1.Container) int64 { return c.Resources.Requests.Memory().Value() })
	count := len(pod.Spec.Containers)
	for i := range pod.Spec.InitContainers {
		if isSidecar(&pod.Spec.InitContainers[i]) {
			count++
		}
	}
	return max(0, whole-asked) / int64(max(1, count))
}
