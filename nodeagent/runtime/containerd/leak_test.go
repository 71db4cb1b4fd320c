package containerd

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// mountsOf lists the mounts whose path holds a text.
func mountsOf(t *testing.T, text string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// processesOf lists the processes whose command line holds a text.
func processesOf(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(data), text) {
			found = append(found, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

func TestCleanupLeavesNothing(t *testing.T) {
	n := newNode(t)
	n.start(n.container("p1", "a", "sleep"))
	n.start(n.container("p1", "b", "sleep"))
	n.start(n.container("p2", "a", "exit", "1"))
	shims := "-namespace\x00" + n.cfg.Namespace
	if len(processesOf(t, shims)) != 2 {
		t.Fatalf("want two shims, have %v", processesOf(t, shims))
	}
	if err := n.Cleanup(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(t, shims); len(left) > 0 {
		t.Errorf("shims left: %v", left)
	}
	if left := mountsOf(t, n.cfg.Namespace); len(left) > 0 {
		t.Errorf("mounts left: %v", left)
	}
	for _, mount := range n.cgroups.mounts {
		if _, err := os.Stat(filepath.Join(mount, n.cfg.CgroupRoot)); err == nil {
			t.Errorf("cgroup left below %s", mount)
		}
	}
	c, err := client.New(daemon.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	namespaces, err := c.NamespaceService().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range namespaces {
		if name == n.cfg.Namespace {
			t.Errorf("containerd namespace %s is left", name)
		}
	}
	if err := n.Cleanup(t.Context(), true); err != nil {
		t.Errorf("a second cleanup: %v", err)
	}
}

// Without images, what a next start needs stays.
func TestCleanupKeepsImages(t *testing.T) {
	n := newNode(t)
	n.start(n.container("p1", "a", "sleep"))
	if err := n.Cleanup(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	c := n.start(n.container("p1", "a", "exit", "0"))
	n.await(c.ID, "exited", exited)
}

// An agent that was killed as it made a pod's cgroup, or removed it, leaves it
// to the next one, which tells it from one that is used.
func TestSweepCgroups(t *testing.T) {
	n := newNode(t)
	used := n.start(n.container("p1", "a", "sleep"))
	left, starting := n.container("p2", "a"), n.container("p3", "a")
	for _, c := range []rt.Container{left, starting} {
		if err := n.cgroups.shape(c.CgroupParent, rt.Resources{CPUShares: 100, PIDs: 60}, false); err != nil {
			t.Fatal(err)
		}
	}
	release := n.hold(starting)
	n.sweepCgroups()
	n.wantCgroup(left, false)
	n.wantCgroup(starting, true)
	n.wantCgroup(used, true)
	release()
	n.sweepCgroups()
	n.wantCgroup(starting, false)
}

// wantCgroup checks whether a container's pod has a cgroup.
func (n *node) wantCgroup(c rt.Container, want bool) {
	n.t.Helper()
	if got := slices.Contains(n.cgroups.below(n.cfg.CgroupRoot), path.Base(c.CgroupParent)); got != want {
		n.t.Errorf("there is a cgroup %s: %t, want %t", c.CgroupParent, got, want)
	}
}

// A containerd that is killed as it makes a task leaves the task's directory,
// and refuses to make it again: the attempt after the first that fails works.
func TestHalfMadeTask(t *testing.T) {
	n := newNode(t)
	c := n.container("p1", "a", "sleep")
	bundle := filepath.Join(n.cfg.DaemonState, "io.containerd.runtime.v2.task", n.cfg.Namespace, c.ID)
	if err := os.MkdirAll(filepath.Join(bundle, "rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Fatalf("got %v, want a start that the directory is in the way of", err)
	}
	n.start(c)
}
