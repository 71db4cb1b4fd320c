package scheduler

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Ephemeral storage runs out like CPU and memory.
func TestEphemeralStorage(t *testing.T) {
	disk := func(size string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse(size)
		}
	}
	s := NewState()
	s.SetNode("n1", newNode("n1", "8", "8Gi", "10", func(n *corev1.Node) {
		n.Status.Allocatable[corev1.ResourceEphemeralStorage] = resource.MustParse("10Gi")
	}))
	got := summary(Schedule([]*corev1.Pod{newPod("a", "", "", disk("6Gi")), newPod("b", "", "", disk("6Gi")), newPod("c", "", "")}, s))
	want := map[string]string{"a": "n1", "b": "0/1 nodes are available: 1 Insufficient ephemeral-storage.", "c": "n1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTaints(t *testing.T) {
	tainted := func(taints ...corev1.Taint) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = taints }
	}
	tolerates := func(t corev1.Toleration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{t} }
	}
	memory := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
	disk := corev1.Taint{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule}
	team := corev1.Taint{Key: "team", Value: "a", Effect: corev1.TaintEffectNoExecute}
	refused := func(key, value string) string {
		return "0/1 nodes are available: 1 node(s) had untolerated taint {" + key + ": " + value + "}."
	}
	for name, tc := range map[string]struct {
		taint corev1.Taint
		pod   *corev1.Pod
		want  string
	}{
		"best effort, memory pressure":         {memory, newPod("a", "", ""), refused(memory.Key, "")},
		"asks for memory, memory pressure":     {memory, newPod("a", "", "1Mi"), "n1"},
		"asks for memory, disk pressure":       {disk, newPod("a", "", "1Mi"), refused(disk.Key, "")},
		"tolerates its key":                    {disk, newPod("a", "", "", tolerates(corev1.Toleration{Key: disk.Key, Operator: corev1.TolerationOpExists})), "n1"},
		"tolerates everything":                 {disk, newPod("a", "", "", tolerates(corev1.Toleration{Operator: corev1.TolerationOpExists})), "n1"},
		"tolerates the value":                  {team, newPod("a", "", "", tolerates(corev1.Toleration{Key: "team", Value: "a"})), "n1"},
		"tolerates another value":              {team, newPod("a", "", "", tolerates(corev1.Toleration{Key: "team", Value: "b"})), refused("team", "a")},
		"tolerates another effect":             {team, newPod("a", "", "", tolerates(corev1.Toleration{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule})), refused("team", "a")},
		"a taint that only asks to be avoided": {corev1.Taint{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}, newPod("a", "", ""), "n1"},
	} {
		s := NewState()
		s.SetNode("n1", newNode("n1", "8", "8Gi", "10", tainted(tc.taint)))
		if diff := cmp.Diff(map[string]string{"a": tc.want}, summary(Schedule([]*corev1.Pod{tc.pod}, s))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	s := NewState()
	s.SetNode("n1", newNode("n1", "8", "8Gi", "10", tainted(memory)))
	Schedule([]*corev1.Pod{newPod("a", "", "")}, s)
	if !s.SetNode("n1", newNode("n1", "8", "8Gi", "10")) {
		t.Error("pods are not tried again when a taint goes")
	}
	if got := summary(Schedule([]*corev1.Pod{newPod("a", "", "")}, s)); got["a"] != "n1" {
		t.Errorf("without the taint: %v", got)
	}
}
