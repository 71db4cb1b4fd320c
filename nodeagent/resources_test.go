package nodeagent

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func amounts(cpu, memory string) corev1.ResourceList {
	out := corev1.ResourceList{}
	if cpu != "" {
		out[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		out[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return out
}

// TestPodResources: the cgroup of a pod, of a container in it, and its OOM
// score.
func TestPodResources(t *testing.T) {
	asks := func(pod *corev1.Pod, name, cpu, memory, cpuLimit, memoryLimit string) {
		containerNamed(pod, name).Resources = corev1.ResourceRequirements{Requests: amounts(cpu, memory), Limits: amounts(cpuLimit, memoryLimit)}
	}
	type settings = runtime.Resources
	tests := []struct {
		name       string
		change     func(*corev1.Pod)
		pod, first settings
	}{
		{"best effort", func(*corev1.Pod) {}, settings{CPUShares: 2}, settings{CPUShares: 2, OOMScoreAdj: 1000}},
		{
			"burstable", func(p *corev1.Pod) { asks(p, "a", "500m", "1Gi", "", "") },
			settings{CPUShares: 512},
			settings{CPUShares: 512, OOMScoreAdj: 750},
		},
		{
			"one without limit", func(p *corev1.Pod) {
				asks(p, "a", "500m", "1Gi", "1", "1Gi")
				asks(p, "b", "250m", "", "", "1Gi")
			},
			settings{CPUShares: 768, MemoryLimit: 2 << 30},
			settings{CPUShares: 512, CPUQuota: 100000, CPUPeriod: 100000, MemoryLimit: 1 << 30, OOMScoreAdj: 750},
		},
		{
			"guaranteed", func(p *corev1.Pod) {
				asks(p, "a", "500m", "1Gi", "500m", "1Gi")
				asks(p, "b", "500m", "1Gi", "500m", "1Gi")
			},
			settings{CPUShares: 1024, CPUQuota: 100000, CPUPeriod: 100000, MemoryLimit: 2 << 30},
			settings{CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 30, OOMScoreAdj: -997},
		},
		{
			"the pod as a whole", func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts("1", "2Gi"), Limits: amounts("2", "3Gi")}
			},
			settings{CPUShares: 1024, CPUQuota: 200000, CPUPeriod: 100000, MemoryLimit: 3 << 30},
			settings{CPUShares: 2048, CPUQuota: 200000, CPUPeriod: 100000, MemoryLimit: 3 << 30, OOMScoreAdj: 750},
		},
	}
	m := machine{memory: 4 << 30}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pod := newPod("p", "a", "b")
			test.change(pod)
			if diff := cmp.Diff(test.pod, m.podResources(pod)); diff != "" {
				t.Errorf("pod: %s", diff)
			}
			if diff := cmp.Diff(test.first, m.resourcesOf(pod, &pod.Spec.Containers[0])); diff != "" {
				t.Errorf("container: %s", diff)
			}
		})
	}
}

func TestSidecarOOMScore(t *testing.T) {
	pod := withSidecars(newPod("p", "a"), "s")
	pod.Spec.Containers[0].Resources.Requests = amounts("", "2Gi")
	m := machine{memory: 4 << 30}
	if got := m.oomScoreAdj(pod, &pod.Spec.InitContainers[0]); got != 500 {
		t.Errorf("a sidecar that asks for nothing has %d, and its pod's container 500", got)
	}
}

func TestRefusal(t *testing.T) {
	for name, test := range map[string]struct {
		sysctl  string
		hostNet bool
		want    string
	}{
		"safe":               {"net.ipv4.tcp_syncookies", false, ""},
		"safe, with slashes": {"net/ipv4/tcp_syncookies", false, ""},
		"unsafe":             {"kernel.msgmax", false, `forbidden sysctl: "kernel.msgmax" not allowlisted`},
		"not its own":        {"net.ipv4.tcp_syncookies", true, `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled`},
	} {
		pod := newPod("p", "a")
		pod.Spec.HostNetwork = test.hostNet
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: test.sysctl}}}
		got := ""
		if doom := refusal(pod); doom != nil {
			got = doom.Message
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestEnvFileValue(t *testing.T) {
	const file = "# comment\n\n A='1' # one\nB='two\nlines'\nC= 'spaced'\nD=''\n"
	for key, want := range map[string]string{"A": "1", "B": "two\nlines", "C": "", "D": "", "NONE": ""} {
		got, found, err := envFileValue(file, key)
		if got != want || found != (want != "") || err != nil {
			t.Errorf("%s: got %q, %t, %v", key, got, found, err)
		}
	}
	for name, bad := range map[string]string{
		"no value": "A\n", "no quotes": "A=1\n", "space before =": "A ='1'\n", "open": "A='1\n2\n", "more behind": "A='1' 2\n", "no name": "='1'\n",
	} {
		if _, _, err := envFileValue(bad, "X"); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
