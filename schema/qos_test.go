package schema

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestQOSClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		out := corev1.ResourceList{}
		if cpu != "" {
			out[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			out[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return out
	}
	tests := []struct {
		name             string
		requests, limits corev1.ResourceList
		want             corev1.PodQOSClass
	}{
		{"nothing", nil, nil, corev1.PodQOSBestEffort},
		{"limits alone", nil, list("1", "1Gi"), corev1.PodQOSGuaranteed},
		{"equal", list("1000m", "1Gi"), list("1", "1024Mi"), corev1.PodQOSGuaranteed},
		{"one limit", nil, list("1", ""), corev1.PodQOSBurstable},
		{"less", list("500m", "1Gi"), list("1", "1Gi"), corev1.PodQOSBurstable},
		{"requests alone", list("1", "1Gi"), nil, corev1.PodQOSBurstable},
	}
	for _, test := range tests {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{}}}}
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: test.requests, Limits: test.limits}
		if got := QOSClass(pod); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}
