package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func probes(t *testing.T, w *world) {
	pod := w.pod(t, "probes", `
containers:
- {name: http, image: IMAGE, args: [serve, "8081"], ports: [{name: web, containerPort: 8081}], readinessProbe: {periodSeconds: 1, httpGet: {port: web, path: /x, httpHeaders: [{name: Lamp, value: lit}]}}}
- {name: tcp, image: IMAGE, args: [serve, "8082"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8082}}}
- {name: grpc, image: IMAGE, args: [serve, "8083"], readinessProbe: {periodSeconds: 1, grpc: {port: 8083, service: lamp}}}
- {name: exec, image: IMAGE, args: [add, /data/x, x, --, sleep], readinessProbe: {periodSeconds: 1, exec: {command: [/tool, has, /data/x]}}}
- {name: unlit, image: IMAGE, args: [serve, "8084"], readinessProbe: {periodSeconds: 1, httpGet: {port: 8084}}}
- {name: late, image: IMAGE, args: [sleep], startupProbe: {periodSeconds: 1, failureThreshold: 90, exec: {command: [/tool, has, /data/x]}}}
`)
	want := map[string]bool{"http": true, "tcp": true, "grpc": true, "exec": true, "unlit": false, "late": false}
	said := w.run(t, pod, "ready as its probes say", func(p *corev1.Pod) bool {
		got := map[string]bool{}
		for _, c := range p.Status.ContainerStatuses {
			got[c.Name] = c.Ready
		}
		return cmp.Equal(want, got)
	})
	if late := status(said, "late"); late.Started == nil || *late.Started || ready(said) {
		t.Errorf("pod is %s", summary(said))
	}
	w.delete(t, pod, 0)
}

// liveness: a failing probe has its container restarted, within the probe's
// own grace.
func liveness(t *testing.T, w *world) {
	pod := w.pod(t, "liveness", `
restartPolicy: OnFailure
terminationGracePeriodSeconds: 300
containers:
- {name: live, image: IMAGE, args: [stubborn], livenessProbe: {periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1, exec: {command: [/tool, has, /none]}}}
- {name: start, image: IMAGE, args: [sleep], startupProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/tool, has, /none]}}}
`)
	said := w.run(t, pod, "restarted", func(p *corev1.Pod) bool {
		return status(p, "live").RestartCount > 0 && status(p, "start").RestartCount > 0
	})
	if last := status(said, "live").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("pod is %s", summary(said))
	}
	w.delete(t, pod, 0)
}

func security(t *testing.T, w *world) {
	dir := filepath.Join(w.dir, "d", "seccomp")
	profile := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "no-mkdir.json"), []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	pod := w.pod(t, "security", `
restartPolicy: Never
securityContext:
  {runAsUser: 1000, runAsGroup: 1001, supplementalGroups: [5, 6], supplementalGroupsPolicy: Strict, fsGroup: 7, sysctls: [{name: net.ipv4.ip_local_port_range, value: "2000 3000"}]}
containers:
- {name: plain, image: IMAGE, args: [id, --, cat, /proc/self/status, /proc/sys/net/ipv4/ip_local_port_range]}
- {name: open, image: IMAGE, args: [cat, /proc/self/status], securityContext: {seccompProfile: {type: Unconfined}}}
- {name: local, image: IMAGE, args: [mkdir, /data/x], securityContext: {seccompProfile: {type: Localhost, localhostProfile: no-mkdir.json}}}
- {name: closed, image: IMAGE, args: [mkdir, /data/x, --, cat, /proc/self/status], securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, runAsUser: 0, capabilities: {drop: [ALL], add: [NET_ADMIN]}}}
- {name: all, image: IMAGE, args: [cat, /proc/self/status], securityContext: {privileged: true, runAsUser: 0}}
`)
	w.run(t, pod, "ended", ended)
	w.wantLog(t, pod, "plain", "uid=1000 gid=1001 groups=[5 6 7 1001]\n", "Seccomp:\t2\n", "ip_local_port_range: 2000\t3000\n", "CapEff:\t0000000000000000\n")
	w.wantLog(t, pod, "open", "Seccomp:\t0\n")
	w.wantLog(t, pod, "local", "operation not permitted")
	w.wantLog(t, pod, "closed", "read-only file system", "CapEff:\t0000000000001000\n", "NoNewPrivs:\t1\n")
	w.wantLog(t, pod, "all", "Seccomp:\t0\n")
}

// refused: what a node will not do is said.
func refused(t *testing.T, w *world) {
	root := w.pod(t, "root-refused", `
securityContext: {runAsNonRoot: true}
containers: [{name: main, image: IMAGE, args: [sleep]}]
`)
	w.run(t, root, "refused", func(p *corev1.Pod) bool {
		waits := status(p, "main").State.Waiting
		return waits != nil && waits.Reason == "CreateContainerConfigError" && strings.Contains(waits.Message, "runAsNonRoot")
	})
	w.delete(t, root, 0)
	unsafe := w.pod(t, "sysctl-refused", `
securityContext: {sysctls: [{name: kernel.msgmax, value: "1"}]}
containers: [{name: main, image: IMAGE, args: [sleep]}]
`)
	if said := w.run(t, unsafe, "failed", ended); said.Status.Reason != "SysctlForbidden" {
		t.Errorf("pod is %s", summary(said))
	}
	profile := w.pod(t, "profile-missing", `
securityContext: {seccompProfile: {type: Localhost, localhostProfile: none.json}}
containers: [{name: main, image: IMAGE, args: [sleep]}]
`)
	w.run(t, profile, "refused", func(p *corev1.Pod) bool {
		waits := status(p, "main").State.Waiting
		return waits != nil && waits.Reason == "CreateContainerConfigError" && strings.Contains(waits.Message, "none.json")
	})
	w.delete(t, profile, 0)
}

func resources(t *testing.T, w *world) {
	pod := w.pod(t, "resources", `
containers:
- {name: a, image: IMAGE, args: [sleep], resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 200m, memory: 32Mi}}}
- {name: b, image: IMAGE, args: [sleep], resources: {limits: {cpu: 100m, memory: 16Mi}}}
`)
	said := w.run(t, pod, "ready", ready)
	if said.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("QoS class is %s", said.Status.QOSClass)
	}
	parent := filepath.Join("evenkeel", w.name, "pod"+string(pod.UID))
	first := filepath.Join(parent, strings.TrimPrefix(status(said, "a").ContainerID, "containerd://"))
	root := "/sys/fs/cgroup/"
	settings := map[string]string{
		"cpu/" + parent + "/cpu.shares": "204", "cpu/" + parent + "/cpu.cfs_quota_us": "30000", "memory/" + parent + "/memory.limit_in_bytes": fmt.Sprint(48 << 20),
		"cpu/" + first + "/cpu.shares": "102", "cpu/" + first + "/cpu.cfs_quota_us": "20000", "memory/" + first + "/memory.limit_in_bytes": fmt.Sprint(32 << 20),
	}
	if _, err := os.Stat(root + "cgroup.controllers"); err == nil { // version 2
		settings = map[string]string{
			parent + "/cpu.max": "30000 100000", parent + "/memory.max": fmt.Sprint(48 << 20),
			first + "/cpu.max": "20000 100000", first + "/memory.max": fmt.Sprint(32 << 20),
		}
	}
	for name, want := range settings {
		if got, err := os.ReadFile(root + name); strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: got %q, %v, want %s", name, got, err, want)
		}
	}
	w.delete(t, pod, 0)
	for name := range settings {
		if _, err := os.Stat(root + name); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// exactStatus: everything else that a status says.
func exactStatus(t *testing.T, w *world) {
	pod := w.pod(t, "status", `
readinessGates: [{conditionType: example.com/lit}]
volumes: [{name: v, emptyDir: {}}]
containers: [{name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: IfPossible}]}]
`)
	pod.Generation = 3
	said := w.run(t, pod, "running", func(p *corev1.Pod) bool { return status(p, "main").Ready })
	s := said.Status
	var conditions []string
	for _, c := range s.Conditions {
		conditions = append(conditions, fmt.Sprintf("%s=%s %s %d", c.Type, c.Status, c.Reason, c.ObservedGeneration))
	}
	slices.Sort(conditions)
	want := []string{"ContainersReady=True  3", "Initialized=True  3", "PodReadyToStartContainers=True  3", "Ready=False ReadinessGatesNotReady 3"}
	if diff := cmp.Diff(want, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	c := status(said, "main")
	mode := corev1.RecursiveReadOnlyEnabled
	mounts := []corev1.VolumeMountStatus{{Name: "v", MountPath: "/v", ReadOnly: true, RecursiveReadOnly: &mode}}
	if diff := cmp.Diff(mounts, c.VolumeMounts); diff != "" {
		t.Error(diff)
	}
	if s.Phase != corev1.PodRunning || s.ObservedGeneration != 3 || s.QOSClass != corev1.PodQOSBestEffort || s.StartTime == nil || s.HostIP != w.flags.IP ||
		len(s.PodIPs) != 1 || !strings.HasPrefix(s.PodIP, podNet) || !strings.HasPrefix(c.ImageID, "sha256:") || !strings.HasPrefix(c.ContainerID, "containerd://") || !*c.Started {
		t.Errorf("status is %s\n%+v", summary(said), s)
	}
	lit := pod.DeepCopy()
	lit.Status.Conditions = []corev1.PodCondition{{Type: "example.com/lit", Status: corev1.ConditionTrue}}
	w.run(t, lit, "ready", ready)
	w.delete(t, pod, 0)
}
