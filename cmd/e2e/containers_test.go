package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// containers are the processes that run in pods of the host's node, with the
// UIDs of their pods. The shims that hold them are left out, and so is what is
// about to become one.
func (h *host) containers() map[int]string {
	out := map[int]string{}
	for _, pid := range pids() {
		cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil {
			continue
		}
		_, rest, found := strings.Cut(string(cgroup), "/evenkeel/"+h.name+"/pod")
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		starting := strings.HasPrefix(string(line), "runc\x00init")
		if !found || len(line) == 0 || starting || strings.Contains(string(line), "containerd-shim") {
			continue
		}
		uid, _, _ := strings.Cut(rest, "\n")
		uid, _, _ = strings.Cut(uid, "/")
		out[pid] = uid
	}
	return out
}

// shims are the processes that hold the containers of the host's node.
func (h *host) shims() []int {
	var out []int
	for _, pid := range pids() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(line), "containerd-shim") && strings.Contains(string(line), h.dir+"/") {
			out = append(out, pid)
		}
	}
	return out
}

// processesOf are the processes in one pod.
func (h *host) processesOf(pod *corev1.Pod) []int {
	var out []int
	for pid, uid := range h.containers() {
		if uid == string(pod.UID) {
			out = append(out, pid)
		}
	}
	return out
}

// killProcesses is kill -9 of what runs in a pod.
func (h *host) killProcesses(pod *corev1.Pod) {
	h.t.Helper()
	running := h.processesOf(pod)
	if len(running) == 0 {
		h.t.Fatalf("nothing runs in pod %s", pod.Name)
	}
	for _, pid := range running {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			h.t.Fatal(err)
		}
	}
}
