package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// A pod that forks without end is stopped by its limit; others fork on.
func TestForkBomb(t *testing.T) {
	n := newNode(t)
	if n.cgroups.controllers["pids"] == "" && !n.cgroups.unified {
		requires.Unmet(t, "needs the pids cgroup controller")
	}
	bomb := n.container("p1", "bomb", "fork")
	bomb.PodResources = rt.Resources{PIDs: 60}
	n.start(bomb)
	n.awaitLog(bomb, "stopped after")
	other := n.container("p2", "other", "sleep")
	other.PodResources = rt.Resources{PIDs: 60}
	n.start(other)
	if code, _, err := n.Exec(t.Context(), other.ID, []string{"/tool", "exit", "4"}, 100); code != 4 || err != nil {
		t.Errorf("another pod: %d, %v", code, err)
	}
	root := n.cgroups.mounts[0]
	if !n.cgroups.unified {
		root = n.cgroups.controllers["pids"]
	}
	data, err := os.ReadFile(filepath.Join(root, bomb.CgroupParent, "pids.max"))
	if err != nil || strings.TrimSpace(string(data)) != "60" {
		t.Errorf("limit of the pod is %q, %v", data, err)
	}
	if err := n.Remove(t.Context(), bomb.ID); err != nil {
		t.Errorf("remove it: %v", err)
	}
}
