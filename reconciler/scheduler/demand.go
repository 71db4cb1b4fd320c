package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/evenkeel/evenkeel/reconciler/volumes"
)

// What a container without requests counts as when nodes are compared, so that
// such pods spread too (k8s.io/kubernetes/pkg/scheduler/util/pod_resources.go).
const (
	assumedCPU    = 100
	assumedMemory = 200 << 20
)

// amount is what is asked for, used or there: CPU in thousandths of a core,
// memory and disk (ephemeral storage) in bytes.
type amount struct{ cpu, memory, disk int64 }

func (a amount) plus(b amount) amount {
	return amount{a.cpu + b.cpu, a.memory + b.memory, a.disk + b.disk}
}

func (a amount) minus(b amount) amount {
	return amount{a.cpu - b.cpu, a.memory - b.memory, a.disk - b.disk}
}

func (a amount) max(b amount) amount {
	return amount{max(a.cpu, b.cpu), max(a.memory, b.memory), max(a.disk, b.disk)}
}

// portUse is a port of the machine that a pod takes.
type portUse struct {
	protocol corev1.Protocol
	port     int32
	ip       string // "" is every address
}

// demand is all of a pod that a node is chosen by.
type demand struct {
	requests    amount
	weight      amount // requests, with something assumed where there are none
	ports       []portUse
	selector    map[string]string
	namespace   string
	labels      map[string]string
	affinity    *corev1.Affinity // as the pod has it
	terms       *terms           // of it, about other pods; nil: none
	requires    *nodeaffinity.LazyErrorNodeSelector
	prefers     *nodeaffinity.PreferredSchedulingTerms
	tolerations []corev1.Toleration
	controller  types.UID
	needs       *volumes.Needs // of a pod that claims volumes
	around      *surroundings  // while a node is chosen; nil: no matter which pods are there
}

func demandOf(pod *corev1.Pod) demand {
	d := demand{
		selector: pod.Spec.NodeSelector, ports: portsOf(pod), tolerations: tolerationsOf(pod),
		namespace: pod.Namespace, labels: pod.Labels, affinity: pod.Spec.Affinity, terms: termsOf(pod),
	}
	d.requests, d.weight = requestsOf(pod)
	d.requires, d.prefers = nodeAffinityOf(pod)
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		d.controller = ref.UID
	}
	return d
}

// requestsOf is the sum over the containers and the sidecars beside them, or
// what an init container and the sidecars before it ask for where that is
// more. What the pod as a whole asks for stands instead.
func requestsOf(pod *corev1.Pod) (requests, weight amount) {
	for i := range pod.Spec.Containers {
		r, w := containerRequests(&pod.Spec.Containers[i])
		requests, weight = requests.plus(r), weight.plus(w)
	}
	var sidecars, sidecarsWeight, first, firstWeight amount
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		r, w := containerRequests(c)
		first, firstWeight = first.max(sidecars.plus(r)), firstWeight.max(sidecarsWeight.plus(w))
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars, sidecarsWeight = sidecars.plus(r), sidecarsWeight.plus(w)
		}
	}
	requests, weight = requests.plus(sidecars).max(first), weight.plus(sidecarsWeight).max(firstWeight)
	return wholePod(pod, requests), wholePod(pod, weight)
}

// wholePod puts what a pod asks for as a whole in the place of what its
// containers do.
func wholePod(pod *corev1.Pod, sum amount) amount {
	if pod.Spec.Resources == nil {
		return sum
	}
	if cpu, asked := pod.Spec.Resources.Requests[corev1.ResourceCPU]; asked {
		sum.cpu = cpu.MilliValue()
	}
	if memory, asked := pod.Spec.Resources.Requests[corev1.ResourceMemory]; asked {
		sum.memory = memory.Value()
	}
	return sum
}

func containerRequests(c *corev1.Container) (requests, weight amount) {
	cpu, hasCPU := c.Resources.Requests[corev1.ResourceCPU]
	memory, hasMemory := c.Resources.Requests[corev1.ResourceMemory]
	requests = amount{cpu.MilliValue(), memory.Value(), c.Resources.Requests.StorageEphemeral().Value()}
	weight = requests
	if !hasCPU {
		weight.cpu = assumedCPU
	}
	if !hasMemory {
		weight.memory = assumedMemory
	}
	return requests, weight
}

// portsOf lists host ports; a pod on the host's network takes its container
// ports there.
func portsOf(pod *corev1.Pod) []portUse {
	var out []portUse
	for _, c := range portOwners(pod) {
		for _, p := range c.Ports {
			port := p.HostPort
			if port == 0 && pod.Spec.HostNetwork {
				port = p.ContainerPort
			}
			if port == 0 {
				continue
			}
			use := portUse{protocol: p.Protocol, port: port, ip: p.HostIP}
			if use.ip == "0.0.0.0" {
				use.ip = ""
			}
			if use.protocol == "" {
				use.protocol = corev1.ProtocolTCP
			}
			out = append(out, use)
		}
	}
	return out
}

// portOwners are the containers that go on running.
func portOwners(pod *corev1.Pod) []corev1.Container {
	out := pod.Spec.Containers
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(slices.Clip(out), c)
		}
	}
	return out
}

// classOf is equal for demands that fit the same nodes.
func (s *State) classOf(d *demand) string {
	var b strings.Builder
	fmt.Fprint(&b, d.requests, d.ports)
	for _, k := range slices.Sorted(maps.Keys(d.selector)) {
		fmt.Fprintf(&b, "|%s=%s", k, d.selector[k])
	}
	for _, t := range d.tolerations {
		fmt.Fprintf(&b, "|%s %s %s %s", t.Key, t.Operator, t.Value, t.Effect)
	}
	if s.touched(d) {
		b.WriteString(d.peerClass())
	}
	if d.affinity != nil {
		text, _ := json.Marshal(d.affinity) // plain data: it cannot fail
		b.Write(text)
	}
	return b.String()
}
