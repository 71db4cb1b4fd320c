package scheduler

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

func resources(cpu, memory string) corev1.ResourceList {
	list := corev1.ResourceList{}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return list
}

func newNode(name, cpu, memory, pods string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Allocatable = resources(cpu, memory)
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse(pods)
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, c := range change {
		c(n)
	}
	return n
}

func newPod(name, cpu, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: resources(cpu, memory)}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func hostPort(port int32, ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port, HostIP: ip, ContainerPort: 80, Protocol: corev1.ProtocolTCP}}
	}
}

func ownedBy(uid string) func(*corev1.Pod) {
	controller := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{UID: types.UID(uid), Controller: &controller}}
	}
}

// summary is a result as a test reads it: pod → node, or why not.
func summary(r Result) map[string]string {
	out := map[string]string{}
	for _, b := range r.Bindings {
		out[b.Pod.Name] = b.Node
	}
	for _, f := range r.Unschedulable {
		out[f.Pod.Name] = f.Reason
	}
	return out
}

func TestSchedule(t *testing.T) {
	notReady := func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	ssd := func(n *corev1.Node) { n.Labels = map[string]string{"disk": "ssd"} }
	wantsSSD := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
	phase := func(phase corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = phase } }
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	initCPU := func(cpu string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: resources(cpu, "")}}}
		}
	}
	for _, c := range []struct {
		name  string
		nodes []*corev1.Node
		there []*corev1.Pod
		pods  []*corev1.Pod
		want  map[string]string
	}{
		{
			"no nodes", nil, nil,
			[]*corev1.Pod{newPod("a", "", "")},
			map[string]string{"a": "no nodes available to schedule pods"},
		},
		{
			"least allocated",
			[]*corev1.Node{newNode("n1", "2", "4Gi", "10"), newNode("n2", "4", "4Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "1", "1Gi")},
			map[string]string{"a": "n2"},
		},
		{
			"room runs out within one pass",
			[]*corev1.Node{newNode("n1", "1", "4Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "600m", ""), newPod("b", "600m", ""), newPod("c", "400m", "")},
			map[string]string{"a": "n1", "b": "0/1 nodes are available: 1 Insufficient cpu.", "c": "n1"},
		},
		{
			"every reason counted",
			[]*corev1.Node{
				newNode("n1", "1", "1Gi", "10"), newNode("n2", "8", "8Gi", "10", notReady), newNode("n3", "8", "8Gi", "10", cordoned), newNode("n4", "1", "8Gi", "0"),
			},
			nil,
			[]*corev1.Pod{newPod("a", "2", "2Gi")},
			map[string]string{"a": "0/4 nodes are available: 1 Insufficient memory, 1 Too many pods, 1 node(s) were not ready, 1 node(s) were unschedulable, 2 Insufficient cpu."},
		},
		{
			"node selector",
			[]*corev1.Node{newNode("n1", "8", "8Gi", "10"), newNode("n2", "1", "1Gi", "10", ssd)},
			nil,
			[]*corev1.Pod{newPod("a", "", "", wantsSSD)},
			map[string]string{"a": "n2"},
		},
		{
			"node selector matches none",
			[]*corev1.Node{newNode("n1", "8", "8Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "", "", wantsSSD)},
			map[string]string{"a": "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		},
		{
			"host ports",
			[]*corev1.Node{newNode("n1", "8", "8Gi", "10")},
			[]*corev1.Pod{newPod("x", "", "", on("n1"), hostPort(80, "10.0.0.1"))},
			[]*corev1.Pod{newPod("a", "", "", hostPort(80, "10.0.0.2")), newPod("b", "", "", hostPort(80, "")), newPod("c", "", "", hostPort(81, ""))},
			map[string]string{"a": "n1", "b": "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.", "c": "n1"},
		},
		{
			"finished pods give room, terminating ones keep it",
			[]*corev1.Node{newNode("n1", "1", "4Gi", "10"), newNode("n2", "1", "4Gi", "10")},
			[]*corev1.Pod{newPod("x", "1", "", on("n1"), phase(corev1.PodSucceeded)), newPod("y", "1", "", on("n2"), going)},
			[]*corev1.Pod{newPod("a", "1", ""), newPod("b", "1", "")},
			map[string]string{"a": "n1", "b": "0/2 nodes are available: 2 Insufficient cpu."},
		},
		{
			"largest init container counts",
			[]*corev1.Node{newNode("n1", "1", "4Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "100m", "", initCPU("2")), newPod("b", "500m", "", initCPU("1"))},
			map[string]string{"a": "0/1 nodes are available: 1 Insufficient cpu.", "b": "n1"},
		},
		{
			"spreads a controller's pods",
			[]*corev1.Node{newNode("n1", "8", "8Gi", "10"), newNode("n2", "2", "2Gi", "10"), newNode("n3", "2", "2Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "100m", "", ownedBy("rc")), newPod("b", "100m", "", ownedBy("rc")), newPod("c", "100m", "", ownedBy("rc"))},
			map[string]string{"a": "n1", "b": "n2", "c": "n3"},
		},
		{
			"pods without requests spread too",
			[]*corev1.Node{newNode("n1", "2", "2Gi", "10"), newNode("n2", "2", "2Gi", "10")},
			nil,
			[]*corev1.Pod{newPod("a", "", ""), newPod("b", "", "")},
			map[string]string{"a": "n1", "b": "n2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewState()
			for _, p := range c.there {
				s.SetPod(schema.KeyOf(p), p)
			}
			for _, n := range c.nodes {
				s.SetNode(n.Name, n)
			}
			if diff := cmp.Diff(c.want, summary(Schedule(c.pods, s))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStateGivesBack reserves, releases and sees pods end, and finds the state
// empty again.
func TestStateGivesBack(t *testing.T) {
	s := NewState()
	s.SetNode("n1", newNode("n1", "1", "1Gi", "10"))
	a, b := newPod("a", "1", "", hostPort(80, ""), ownedBy("rc")), newPod("b", "1", "")
	key := schema.KeyOf(a)
	Schedule([]*corev1.Pod{a}, s)
	if s.SetPod(key, a) || !s.Reserved(key, a.UID) {
		t.Error("seen unbound once more, the pod lost its room")
	}
	if got := Schedule([]*corev1.Pod{b}, s); len(got.Bindings) != 0 {
		t.Errorf("gave the same room twice: %v", summary(got))
	}
	s.Release(key, a.UID)
	if got := Schedule([]*corev1.Pod{b}, s); len(got.Bindings) != 1 {
		t.Errorf("room given back is not there: %v", summary(got))
	}
	bound := newPod("b", "1", "", on("n1"))
	s.SetPod(schema.KeyOf(b), bound)
	if s.Reserved(schema.KeyOf(b), b.UID) {
		t.Error("still reserved after it was seen bound")
	}
	if !s.SetPod(schema.KeyOf(b), nil) {
		t.Error("the end of a pod gave no room back")
	}
	if n := s.nodes["n1"]; n.pods != 0 || n.used != (amount{}) || n.weight != (amount{}) || len(n.ports) != 0 || len(s.spread) != 0 {
		t.Errorf("left over: %+v, %v", n, s.spread)
	}
	if s.SetNode("n1", nil); len(s.nodes) != 0 || s.HasNode("n1") {
		t.Errorf("nodes left: %v", s.nodes)
	}
}

func BenchmarkSchedule(b *testing.B) {
	const nodes, pods = 1000, 10000
	var all []*corev1.Pod
	for i := range pods {
		all = append(all, newPod(fmt.Sprint("p", i), "100m", "100Mi", ownedBy(fmt.Sprint("rc", i/100))))
	}
	for b.Loop() {
		s := NewState()
		for i := range nodes {
			s.SetNode(fmt.Sprint("n", i), newNode(fmt.Sprint("n", i), "4", "8Gi", "110"))
		}
		if got := Schedule(all, s); len(got.Bindings) != pods {
			b.Fatalf("%d bound", len(got.Bindings))
		}
	}
}

// BenchmarkScheduleApart is BenchmarkSchedule with pods that would rather be
// apart from others of their controller, as most charts have them.
func BenchmarkScheduleApart(b *testing.B) {
	const nodes, pods = 1000, 10000
	var all []*corev1.Pod
	for i := range pods {
		name := fmt.Sprint("rc", i/100)
		all = append(all, newPod(fmt.Sprint("p", i), "100m", "100Mi", ownedBy(name), app(name), rather(-100, apps(name, corev1.LabelHostname))))
	}
	for b.Loop() {
		s := NewState()
		for i := range nodes {
			name := fmt.Sprint("n", i)
			s.SetNode(name, newNode(name, "4", "8Gi", "110", labeled(corev1.LabelHostname, name)))
		}
		if got := Schedule(all, s); len(got.Bindings) != pods {
			b.Fatalf("%d bound", len(got.Bindings))
		}
	}
}
