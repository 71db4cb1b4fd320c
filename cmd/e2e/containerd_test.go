package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestContainerdDies kills the private containerd under traffic: no container
// and no request notices, and when it is back a dead container is replaced.
func TestContainerdDies(t *testing.T) {
	require(t)
	t.Parallel()
	s := startSite(t, false, webService(2))
	s.cluster.ready()
	before := s.host.running()
	clusterIP := s.cluster.service(shop, "web").Spec.ClusterIP
	flow := s.startTraffic(s.host.ns, 50, "http://"+clusterIP, "http://"+s.host.ip+":30080")

	s.step("kill containerd")
	pidFile := filepath.Join(s.host.data(), "containerd", "containerd.pid")
	dead := s.host.killContainerd()
	back := eventually(t, patience, "another containerd", func() error {
		if pid := pidIn(t, pidFile); pid == 0 || pid == dead {
			return fmt.Errorf("still %d", pid)
		}
		return nil
	})
	t.Logf("another containerd after %v", back)
	if sent, err := flow.end(); err != nil {
		t.Errorf("of %d requests: %v", sent, err)
	}
	if after := s.host.running(); !slices.Equal(before, after) {
		t.Errorf("containers before and after: %v, %v", before, after)
	}

	s.step("kill a container")
	pod := s.cluster.pods(shop, "web")[0]
	s.host.killProcesses(pod)
	eventually(t, patience, "the container is back", func() error {
		for _, p := range s.cluster.podsReady(shop, "web", 2) {
			if p.UID == pod.UID && p.Status.ContainerStatuses[0].RestartCount == 1 {
				return nil
			}
		}
		return fmt.Errorf("%s was not restarted", pod.Name)
	})
}

const probedYAML = `
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: evenkeel.io/echo:1
          startupProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 60}
          readinessProbe: {exec: {command: [/echo, get, "http://127.0.0.1:8080/healthz"]}, periodSeconds: 1, timeoutSeconds: 4, failureThreshold: 1}
          livenessProbe: {exec: {command: [/echo, get, "http://127.0.0.1:8080/healthz"]}, periodSeconds: 1, timeoutSeconds: 4, failureThreshold: 1}
`

// TestContainerdStaysAway has the machine's containerd dead for longer than
// any probe's patience. What runs on stays ready and is not restarted, although
// nobody can run its probes; what ended meanwhile is seen when containerd is
// back, also by another agent, which waits for it.
func TestContainerdStaysAway(t *testing.T) {
	require(t)
	t.Parallel()
	w := newWorld(t, 1)
	h := w.hosts[0]
	m := startMachines(w, h.ns, "127.0.0.1", func(r repo) {
		r.write("shop.yaml", shopYAML)
		r.write("web.yaml", probedYAML)
	})
	pods := m.cluster.podsReady(shop, "web", 3)

	// An agent that is told where containerd is never starts one itself.
	dir := filepath.Join(h.data(), "containerd")
	told := "--containerd=" + filepath.Join(dir, "containerd.sock")
	m.agents[h].kill()
	takeover{machines: m, host: h, store: w.openEtcd(h.ns, m.etcd)}.takenOver(told)
	before := podUIDs(pods)

	w.step("containerd is dead")
	h.killContainerd()
	h.killProcesses(pods[0])
	steadily(t, 6*time.Second, "pods as before", func() error {
		for _, pod := range m.cluster.pods(shop, "web") {
			if restarts, known := before[string(pod.UID)]; !known || restarts != 0 || !isReady(pod) && pod.Name != pods[0].Name {
				return fmt.Errorf("pod %s: ready %t, %d restarts", pod.Name, isReady(pod), restarts)
			}
		}
		return nil
	})
	running := h.containers() // without those of probes, which have ended

	w.step("the agent is killed too")
	m.agents[h].kill()
	m.startAgent(h, told)

	w.step("containerd is back")
	began := time.Now()
	w.start(h.ns, "containerd", "--config", filepath.Join(dir, "config.toml"))
	eventually(t, patience, "the dead container is back", func() error {
		p := m.cluster.pod(shop, pods[0].Name)
		if last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated; restarts(p) != 1 || !isReady(p) || last == nil || last.ExitCode != 137 {
			return fmt.Errorf("%+v", p.Status.ContainerStatuses[0])
		}
		return nil
	})
	t.Logf("after %v", time.Since(began))
	for _, pod := range pods[1:] {
		if p := m.cluster.pod(shop, pod.Name); restarts(p) != 0 || !isReady(p) {
			t.Errorf("pod %s: ready %t, %d restarts", pod.Name, isReady(p), restarts(p))
		}
	}
	after := h.containers()
	for pid, uid := range running {
		if uid != string(pods[0].UID) && after[pid] != uid {
			t.Errorf("process %d of pod %s ran before, and does no more", pid, uid)
		}
	}
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 { // it is being written
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
