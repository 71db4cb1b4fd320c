package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema/validation"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// ownUsers: root of a pod with hostUsers: false is nobody on the machine, and
// no other pod's user either; its volumes have the IDs that they have on disk,
// and everything else is as in any pod.
func ownUsers(t *testing.T, w *world) {
	if err := errors.Join(os.MkdirAll(w.file("users"), 0o755), os.WriteFile(w.file("users/secret"), []byte("root's"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.bind(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lamps"}, Data: map[string]string{"colour": "red"}})
	pod := w.pod(t, "users", `
hostUsers: false
shareProcessNamespace: true
securityContext: {fsGroup: 7, sysctls: [{name: net.ipv4.ip_local_port_range, value: "2000 3000"}]}
volumes:
- {name: host, hostPath: {path: DIR/users}}
- {name: scratch, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory}}
- {name: settings, configMap: {name: lamps}}
- {name: self, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
containers:
- name: root
  image: IMAGE
  args: [id, --, cat, /proc/self/uid_map, /host/secret, /settings/colour, /self/name, /etc/hostname, /proc/sys/net/ipv4/ip_local_port_range, --,
    add, /host/made, x, --, add, /part/made, x, --, add, /memory/made, x, --, add, /data/made, x, --, add, /dev/termination-log, x, --, ps, --, serve, "8081"]
  readinessProbe: {periodSeconds: 1, httpGet: {port: 8081, path: /x, httpHeaders: [{name: Lamp, value: lit}]}}
  volumeMounts:
  - {name: host, mountPath: /host}
  - {name: scratch, mountPath: /part, subPath: deep/part}
  - {name: memory, mountPath: /memory}
  - {name: settings, mountPath: /settings}
  - {name: self, mountPath: /self}
- name: user
  image: IMAGE
  args: [add, /memory/mine, x, --, cat, /host/secret, --, add, /host/no, x, --, sleep]
  securityContext: {runAsUser: 1000}
  readinessProbe: {periodSeconds: 1, exec: {command: [/tool, has, /memory/mine]}}
  volumeMounts:
  - {name: host, mountPath: /host, readOnly: true, recursiveReadOnly: Enabled}
  - {name: memory, mountPath: /memory}
`)
	other := w.pod(t, "other-users", `
hostUsers: false
containers: [{name: main, image: IMAGE, args: [cat, /proc/self/uid_map, --, sleep]}]
`)
	w.run(t, pod, "ready", ready)
	w.run(t, other, "ready", ready)
	w.wantLog(t, pod, "root", "uid=0 gid=0 groups=[0 7]\n", "/host/secret: root's\n", "colour: red\n", "name: users\n", "hostname: users\n",
		"ip_local_port_range: 2000\t3000\n", "process /init")
	w.wantLog(t, pod, "user", "open /host/secret: permission denied", "read-only file system")
	first, second := w.firstUser(t, pod, "root"), w.firstUser(t, other, "main")
	if first < 1<<16 || second < 1<<16 || first == second {
		t.Errorf("the pods' users begin at %d and %d", first, second)
	}
	w.wantOwners(t, pod, first, 0, 1000)
	volumes := filepath.Join(w.dir, "d", "pods", w.name, string(pod.UID), "volumes")
	for path, want := range map[string][2]uint32{
		w.file("users/made"): {0, 0}, filepath.Join(volumes, "scratch/deep/part/made"): {0, 7},
		filepath.Join(volumes, "memory/made"): {0, 7}, filepath.Join(volumes, "memory/mine"): {1000, 7},
	} {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil || stat.Uid != want[0] || stat.Gid != want[1] {
			t.Errorf("%s is %d:%d's on disk, want %v: %v", path, stat.Uid, stat.Gid, want, err)
		}
	}
	w.delete(t, pod, 0)
	w.delete(t, other, 0)
	if left, err := filepath.Glob(filepath.Join(w.dir, "r", "exec", "mapped", string(pod.UID)+"-*")); err != nil || len(left) > 0 {
		t.Errorf("mounts made for starts are left: %v, %v", left, err)
	}

	proc := w.pod(t, "unmapped", `
hostUsers: false
volumes: [{name: v, hostPath: {path: /proc/sys}}]
containers: [{name: main, image: IMAGE, args: [sleep], volumeMounts: [{name: v, mountPath: /v}]}]
`)
	w.run(t, proc, "refused", func(p *corev1.Pod) bool {
		waits := status(p, "main").State.Waiting
		return waits != nil && waits.Reason == "CreateContainerConfigError" && strings.Contains(waits.Message, "mount /proc/sys") && strings.Contains(waits.Message, "hostUsers: false")
	})
	w.delete(t, proc, 0)
}

// firstUser is the machine's ID that is 0 in a container, which has said so.
func (w *world) firstUser(t *testing.T, pod *corev1.Pod, container string) (first uint32) {
	t.Helper()
	w.wantLog(t, pod, container, "/proc/self/uid_map: ")
	words := regexp.MustCompile(`/proc/self/uid_map: +0 +(\d+) +65536\n`).FindStringSubmatch(w.log(t, pod, container))
	if words == nil {
		t.Fatalf("container %s of pod %s has the machine's users:\n%s", container, pod.Name, w.log(t, pod, container))
	}
	_, _ = fmt.Sscan(words[1], &first)
	return first
}

// wantOwners wants a pod's processes to be some of its users' on the machine.
func (w *world) wantOwners(t *testing.T, pod *corev1.Pod, first uint32, want ...uint32) {
	t.Helper()
	seen := map[uint32]bool{}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var stat unix.Stat_t
		data, err := os.ReadFile(file)
		if err == nil && bytes.Contains(data, []byte("/pod"+string(pod.UID)+"/")) && unix.Stat(filepath.Dir(file), &stat) == nil {
			seen[stat.Uid] = true
		}
	}
	for _, id := range want {
		if !seen[first+id] || len(seen) != len(want) {
			t.Errorf("the pod's processes are those of %v, want %v from %d on", seen, want, first)
		}
	}
}

// unmaskedProc: what is hidden of /proc keeps a container within the container
// from getting one, unless nothing is hidden; and Kubernetes' rules for it.
func unmaskedProc(t *testing.T, w *world) {
	pod := w.pod(t, "proc", `
hostUsers: false
restartPolicy: Never
securityContext: {appArmorProfile: {type: Unconfined}}
containers:
- {name: masked, image: IMAGE, args: [nest, /data, --, cat, /proc/self/mountinfo], securityContext: {procMount: Default, capabilities: {add: [SYS_ADMIN]}}}
- {name: open, image: IMAGE, args: [nest, /data, --, cat, /proc/self/mountinfo], securityContext: {procMount: Unmasked, capabilities: {add: [SYS_ADMIN]}}}
`)
	said := w.run(t, pod, "ended", ended)
	if masked, open := status(said, "masked").State.Terminated, status(said, "open").State.Terminated; masked.ExitCode != 1 || open.ExitCode != 0 {
		t.Errorf("pod is %s", summary(said))
	}
	w.wantLog(t, pod, "masked", "error: operation not permitted", " /proc/sys ro,", " /proc/acpi ", " /sys/firmware ")
	w.wantLog(t, pod, "open", " /proc rw,")
	if log := w.log(t, pod, "open"); strings.Contains(log, " /proc/sys ") || strings.Contains(log, " /proc/keys ") || strings.Contains(log, " /sys/firmware ") {
		t.Errorf("/proc is not whole:\n%s", log)
	}
	w.delete(t, pod, 0)

	for name, test := range map[string]struct {
		change func(*corev1.PodSpec)
		want   string
	}{
		"network":   {func(s *corev1.PodSpec) { s.HostNetwork = true }, "spec.hostNetwork: Forbidden"},
		"processes": {func(s *corev1.PodSpec) { s.HostPID = true }, "spec.HostPID: Forbidden"},
		"IPC":       {func(s *corev1.PodSpec) { s.HostIPC = true }, "spec.HostIPC: Forbidden"},
		"users":     {func(s *corev1.PodSpec) { s.HostUsers = new(true) }, "`hostUsers` must be false to use `Unmasked`"},
	} {
		bad := pod.DeepCopy()
		test.change(&bad.Spec)
		if err := validation.Validate(bad).ToAggregate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s of the machine: %v", name, err)
		}
	}
}

// stopSignals: a container is ended with the signal that its pod names.
func stopSignals(t *testing.T, w *world) {
	pod := w.pod(t, "signals", `
os: {name: linux}
volumes: [{name: host, hostPath: {path: DIR/signals, type: DirectoryOrCreate}}]
containers:
- {name: own, image: IMAGE, args: [catch, /host/own], lifecycle: {stopSignal: SIGUSR1}, volumeMounts: [{name: host, mountPath: /host}]}
- {name: usual, image: IMAGE, args: [catch, /host/usual], volumeMounts: [{name: host, mountPath: /host}]}
`)
	said := w.run(t, pod, "ready", ready)
	if own, usual := status(said, "own").StopSignal, status(said, "usual").StopSignal; own == nil || *own != corev1.SIGUSR1 || usual != nil {
		t.Errorf("the status has %v and %v", own, usual)
	}
	w.wantLog(t, pod, "own", "listening")
	w.wantLog(t, pod, "usual", "listening")
	w.delete(t, pod, 20)
	for name, want := range map[string]string{"own": "user defined signal 1\n", "usual": "terminated\n"} {
		if got, err := os.ReadFile(w.file("signals/" + name)); string(got) != want {
			t.Errorf("container %s caught %q, want %q: %v", name, got, want, err)
		}
	}
	windows := pod.DeepCopy()
	windows.Spec.OS = nil
	if err := validation.Validate(windows).ToAggregate(); err == nil || !strings.Contains(err.Error(), "may not be set for containers with empty `spec.os.name`") {
		t.Errorf("without a system: %v", err)
	}
}

// labels: what a machine's AppArmor and SELinux are asked for. Without
// AppArmor a pod that needs it fails, as on a kubelet; labels of SELinux are
// left out where there is none.
func labels(t *testing.T, w *world) {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if _, err := os.Stat("/sbin/apparmor_parser"); bytes.HasPrefix(enabled, []byte("Y")) && err != nil {
		requires.Unmet(t, "AppArmor is enabled, but apparmor_parser not installed")
	}
	for name, spec := range map[string]string{
		"default": "{type: RuntimeDefault}", "local": "{type: Localhost, localhostProfile: none}", "open": "{type: Unconfined}",
	} {
		pod := w.pod(t, "apparmor-"+name, `
restartPolicy: Never
securityContext: {seLinuxOptions: {level: "s0:c1,c2"}, seLinuxChangePolicy: Recursive}
containers: [{name: main, image: IMAGE, args: [say, lit], securityContext: {appArmorProfile: `+spec+`}}]
`)
		refused := name != "open" && !bytes.HasPrefix(enabled, []byte("Y"))
		if !refused && name == "local" {
			w.run(t, pod, "refused", func(p *corev1.Pod) bool {
				waits := status(p, "main").State.Waiting
				return waits != nil && waits.Reason == "CreateContainerConfigError" && strings.Contains(waits.Message, "not loaded")
			})
			continue
		}
		said := w.run(t, pod, "ended", ended)
		if got := said.Status.Reason == "AppArmor" && strings.HasPrefix(said.Status.Message, "Cannot enforce AppArmor"); got != refused || refused == (said.Status.Phase == corev1.PodSucceeded) {
			t.Errorf("pod is %s", summary(said))
		}
	}
}
