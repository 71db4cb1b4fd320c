package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	dead := pidIn(t, pidFile)
	if err := syscall.Kill(dead, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	back := eventually(t, 30*time.Second, "another containerd", func() error {
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
	eventually(t, 30*time.Second, "the container is back", func() error {
		for _, p := range s.cluster.podsReady(shop, "web", 2) {
			if p.UID == pod.UID && p.Status.ContainerStatuses[0].RestartCount == 1 {
				return nil
			}
		}
		return fmt.Errorf("%s was not restarted", pod.Name)
	})
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
