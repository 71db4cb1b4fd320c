package pressure

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resources "k8s.io/component-helpers/resource"
)

// Disk is space on a file system.
type Disk struct{ Bytes, Inodes int64 }

func (d Disk) plus(e Disk) Disk { return Disk{d.Bytes + e.Bytes, d.Inodes + e.Inodes} }

// Usage is what a pod uses.
type Usage struct {
	Memory     int64 // working set, bytes
	Processes  int64
	Containers map[string]ContainerUsage
	Volumes    map[string]Disk // local ones, by name; those in memory are not disk
}

// ContainerUsage is what a container uses, all of its attempts together.
type ContainerUsage struct {
	Memory int64
	Rootfs Disk // what it wrote to its own file system
	Logs   Disk
}

// Pod is a pod that may go.
type Pod struct {
	*corev1.Pod
	Usage *Usage // nil if it is not known
}

// places are where a pod's disk usage counts, for a signal.
type places struct{ rootfs, logs, volumes bool }

// placesOf: with one file system, everything counts.
func placesOf(s Signal, separateImages bool) places {
	switch {
	case !separateImages:
		return places{true, true, true}
	case s == ImageFSAvailable || s == ImageFSInodesFree:
		return places{rootfs: true}
	}
	return places{logs: true, volumes: true}
}

func (u *Usage) disk(p places) Disk {
	var sum Disk
	for _, c := range u.Containers {
		if p.rootfs {
			sum = sum.plus(c.Rootfs)
		}
		if p.logs {
			sum = sum.plus(c.Logs)
		}
	}
	if p.volumes {
		for _, v := range u.Volumes {
			sum = sum.plus(v)
		}
	}
	return sum
}

// Rank orders pods: the one that goes first is first (Kubernetes: "Pod
// selection for kubelet eviction"). For memory and disk: those that use more
// than they asked for, then the lower priority, then by how much more they
// use. For process IDs: the lower priority, then the more processes.
// separateImages says that images have a file system of their own.
func Rank(pods []Pod, s Signal, separateImages bool) []Pod {
	type ranked struct {
		Pod
		exceeds  bool
		priority int32
		excess   int64
	}
	list := make([]ranked, 0, len(pods))
	for _, p := range pods {
		r := ranked{Pod: p, priority: priority(p.Pod)}
		if p.Usage != nil {
			r.excess = excess(p, s, separateImages)
			r.exceeds = r.excess > 0 && s != PIDAvailable
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		if c := cmpBool(a.Usage == nil, b.Usage == nil); c != 0 && s != PIDAvailable {
			return c
		}
		if c := cmpBool(a.exceeds, b.exceeds); c != 0 {
			return c
		}
		if c := cmp.Compare(a.priority, b.priority); c != 0 {
			return c
		}
		return cmp.Or(cmpBool(a.Usage == nil, b.Usage == nil), cmp.Compare(b.excess, a.excess))
	})
	out := make([]Pod, 0, len(list))
	for _, r := range list {
		out = append(out, r.Pod)
	}
	return out
}

// excess is how much more a pod uses than it asked for.
func excess(p Pod, s Signal, separateImages bool) int64 {
	switch s.Resource() {
	case corev1.ResourceMemory:
		return p.Usage.Memory - request(p.Pod, corev1.ResourceMemory)
	case corev1.ResourceEphemeralStorage:
		return p.Usage.disk(placesOf(s, separateImages)).Bytes - request(p.Pod, corev1.ResourceEphemeralStorage)
	case inodes:
		return p.Usage.disk(placesOf(s, separateImages)).Inodes
	}
	return p.Usage.Processes
}

// cmpBool puts true first.
func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func request(pod *corev1.Pod, name corev1.ResourceName) int64 {
	q := resources.PodRequests(pod, resources.PodResourcesOptions{})[name]
	return q.Value()
}

func bytes(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

// systemCritical is the lowest priority that Kubernetes keeps for what a
// cluster cannot do without.
const systemCritical = 2_000_000_000

// Annotations that tell static pods and their mirrors apart from others.
const (
	configSource = "kubernetes.io/config.source"
	configMirror = "kubernetes.io/config.mirror"
)

// IsCritical reports whether a pod is never evicted and always admitted.
func IsCritical(pod *corev1.Pod) bool {
	source, given := pod.Annotations[configSource]
	_, mirror := pod.Annotations[configMirror]
	return given && source != "api" || mirror || priority(pod) >= systemCritical
}
