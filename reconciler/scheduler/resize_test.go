package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// TestResizedPods: a bound pod counts with the most of what it asks for, was
// given and has.
func TestResizedPods(t *testing.T) {
	cpu := func(milli int64) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}
	}
	pod := func(asks, given, has int64) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "u"}}
		p.Spec.NodeName = "n1"
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: cpu(asks)}}}
		if given != 0 {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: cpu(given), Resources: &corev1.ResourceRequirements{Requests: cpu(has)}}}
		}
		return p
	}
	never := pod(900, 200, 300)
	never.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible}}
	whole := pod(100, 100, 100)
	whole.Spec.Resources = &corev1.ResourceRequirements{Requests: cpu(400)}
	whole.Status.AllocatedResources, whole.Status.Resources = cpu(600), &corev1.ResourceRequirements{Requests: cpu(500)}
	s := NewState()
	key := schema.Pods.Key("default", "a")
	for _, step := range []struct {
		name  string
		pod   *corev1.Pod
		want  int64
		freed bool
	}{
		{"just bound", pod(100, 0, 0), 100, false},
		{"as asked", pod(100, 100, 100), 100, false},
		{"asks for more", pod(500, 100, 100), 500, false},
		{"is given it", pod(500, 500, 100), 500, false},
		{"asks for less", pod(200, 500, 500), 500, false},
		{"was given less", pod(200, 200, 500), 500, false},
		{"has less", pod(200, 200, 200), 200, true},
		{"asks for what never can be", never, 300, false},
		{"as a whole", whole, 600, false},
	} {
		if freed := s.SetPod(key, step.pod); freed != step.freed {
			t.Errorf("%s: freed %t", step.name, freed)
		}
		if used := s.nodes["n1"].used.cpu; used != step.want {
			t.Errorf("%s: %d are taken, want %d", step.name, used, step.want)
		}
	}
	if s.SetPod(key, nil); len(s.nodes) != 0 {
		t.Errorf("left: %+v", s.nodes)
	}
}
