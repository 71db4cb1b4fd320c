package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestRequests: what a pod is counted with (Kubernetes: "Resource sharing
// within containers", pod-level resources).
func TestRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	asks := func(milli int64) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity(1, resource.BinarySI),
		}}}
	}
	beside := func(milli int64) corev1.Container {
		c := asks(milli)
		c.RestartPolicy = &always
		return c
	}
	whole := &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}
	for name, test := range map[string]struct {
		spec corev1.PodSpec
		want int64
	}{
		"sum":                         {corev1.PodSpec{Containers: []corev1.Container{asks(100), asks(200)}}, 300},
		"small init":                  {corev1.PodSpec{InitContainers: []corev1.Container{asks(200)}, Containers: []corev1.Container{asks(300)}}, 300},
		"large init":                  {corev1.PodSpec{InitContainers: []corev1.Container{asks(500)}, Containers: []corev1.Container{asks(300)}}, 500},
		"sidecar":                     {corev1.PodSpec{InitContainers: []corev1.Container{beside(200)}, Containers: []corev1.Container{asks(300)}}, 500},
		"init beside a sidecar":       {corev1.PodSpec{InitContainers: []corev1.Container{beside(200), asks(400)}, Containers: []corev1.Container{asks(300)}}, 600},
		"init before a sidecar":       {corev1.PodSpec{InitContainers: []corev1.Container{asks(400), beside(200)}, Containers: []corev1.Container{asks(300)}}, 500},
		"the pod as a whole":          {corev1.PodSpec{Resources: whole, Containers: []corev1.Container{asks(100)}}, 3000},
		"the whole of something else": {corev1.PodSpec{Resources: &corev1.ResourceRequirements{}, Containers: []corev1.Container{asks(100)}}, 100},
	} {
		requests, weight := requestsOf(&corev1.Pod{Spec: test.spec})
		if requests.cpu != test.want || weight.cpu != test.want {
			t.Errorf("%s: got %d and %d, want %d", name, requests.cpu, weight.cpu, test.want)
		}
	}
}
