package check

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/evenkeel/evenkeel/manifests"
)

// nodeFindings finds pods for which the known nodes are too few or too small.
// Where no known node has the labels that a pod asks for, it says nothing.
func (c *Checker) nodeFindings(w *object) []finding {
	if len(c.nodes) == 0 || w.replicas == 0 {
		return nil
	}
	needs := needsOf(w)
	hostPort, port := hostPortOf(w)
	if needs == (amounts{}) && hostPort == "" {
		return nil
	}
	var nodes []*corev1.Node
	for _, n := range c.nodes {
		if takes(n, w.spec) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	var found []finding
	if hostPort != "" && w.replicas > len(nodes) {
		found = append(found, finding{
			code: manifests.CodeHostPort, field: hostPort,
			message: fmt.Sprintf("each of %d replicas needs port %d of a node for itself, and there %s", w.replicas, port, count(len(nodes), "is one known node", "are %d known nodes")),
		})
	}
	if largest, fits := fit(needs, nodes); !fits {
		found = append(found, finding{
			code: manifests.CodePodTooBig, field: biggest(w, needs, nodes),
			message:    fmt.Sprintf("the pod requests %s, more than %s has", needs, count(len(nodes), "the one known node", "any of %d known nodes")),
			suggestion: "the largest: " + largest,
		})
	}
	return found
}

func count(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}

// takes reports whether a pod may be on a node by its name and labels: by what
// the pod selects and what its affinity requires.
func takes(n *corev1.Node, spec *corev1.PodSpec) bool {
	if spec.NodeName != "" && spec.NodeName != n.Name {
		return false
	}
	matches, _ := nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity).Match(n)
	return matches
}

// amounts are CPU in thousandths of a core and memory in bytes.
type amounts struct{ cpu, memory int64 }

func (a amounts) String() string {
	cpu, memory := resource.NewMilliQuantity(a.cpu, resource.DecimalSI), resource.NewQuantity(a.memory, resource.BinarySI)
	switch {
	case a.memory == 0:
		return "cpu " + cpu.String()
	case a.cpu == 0:
		return "memory " + memory.String()
	}
	return "cpu " + cpu.String() + " and memory " + memory.String()
}

// fit reports whether one of the nodes has as much, and otherwise describes
// the one that comes nearest.
func fit(needs amounts, nodes []*corev1.Node) (largest string, fits bool) {
	var best amounts
	for _, n := range nodes {
		has := amounts{n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Memory().Value()}
		if has == (amounts{}) || has.cpu >= needs.cpu && has.memory >= needs.memory {
			return "", true
		}
		if largest == "" || min(has.cpu, needs.cpu) > min(best.cpu, needs.cpu) || min(has.cpu, needs.cpu) == min(best.cpu, needs.cpu) && has.memory > best.memory {
			largest, best = n.Name+" has "+has.String(), has
		}
	}
	return largest, false
}

// needsOf is what a pod requests: the sum over its containers, or the largest
// init container where that is more.
func needsOf(w *object) amounts {
	var needs amounts
	for i := range w.spec.Containers {
		c := &w.spec.Containers[i]
		cpu, _ := requested(c, corev1.ResourceCPU)
		memory, _ := requested(c, corev1.ResourceMemory)
		needs = amounts{needs.cpu + cpu.MilliValue(), needs.memory + memory.Value()}
	}
	for i := range w.spec.InitContainers {
		c := &w.spec.InitContainers[i]
		cpu, _ := requested(c, corev1.ResourceCPU)
		memory, _ := requested(c, corev1.ResourceMemory)
		needs = amounts{max(needs.cpu, cpu.MilliValue()), max(needs.memory, memory.Value())}
	}
	return needs
}

// requested is what a container requests, and in which list it says so;
// without a request its limit counts, as in Kubernetes.
func requested(c *corev1.Container, name corev1.ResourceName) (q resource.Quantity, list string) {
	if q, ok := c.Resources.Requests[name]; ok {
		return q, "requests"
	}
	return c.Resources.Limits[name], "limits"
}

// biggest is the field of the container that requests most of what the nodes
// have too little of.
func biggest(w *object, needs amounts, nodes []*corev1.Node) string {
	name := corev1.ResourceCPU
	for _, n := range nodes {
		if n.Status.Allocatable.Cpu().MilliValue() >= needs.cpu {
			name = corev1.ResourceMemory
		}
	}
	field, most := "", resource.Quantity{}
	look := func(containers []corev1.Container, list string) {
		for i := range containers {
			if q, where := requested(&containers[i], name); q.Cmp(most) > 0 {
				field, most = fmt.Sprintf("%s.%s[%d].resources.%s.%s", w.path, list, i, where, name), q
			}
		}
	}
	look(w.spec.Containers, "containers")
	look(w.spec.InitContainers, "initContainers")
	return field
}

// hostPortOf returns the field of the first port of the node that a pod takes.
func hostPortOf(w *object) (field string, port int32) {
	for i := range w.spec.Containers {
		for j, p := range w.spec.Containers[i].Ports {
			switch {
			case w.spec.HostNetwork:
				return fmt.Sprintf("%s.containers[%d].ports[%d].containerPort", w.path, i, j), p.ContainerPort
			case p.HostPort != 0:
				return fmt.Sprintf("%s.containers[%d].ports[%d].hostPort", w.path, i, j), p.HostPort
			}
		}
	}
	return "", 0
}
