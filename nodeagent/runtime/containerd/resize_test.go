package containerd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// tree is a cgroup hierarchy of plain files.
type tree struct {
	t    *testing.T
	root string
	cgroups
}

func newTree(t *testing.T, unified bool) tree {
	root := t.TempDir()
	c := cgroups{mounts: []string{root}, unified: unified, controllers: map[string]string{"cpu": root, "memory": root}}
	return tree{t, root, c}
}

// fill writes "path file value" lines.
func (f tree) fill(lines ...string) {
	f.t.Helper()
	for _, line := range lines {
		parts := strings.SplitN(line, " ", 3)
		file := filepath.Join(f.root, parts[0], parts[1])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			f.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(parts[2]+"\n"), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f tree) read(path, file string) string {
	data, _ := os.ReadFile(filepath.Join(f.root, path, file))
	return strings.TrimSpace(string(data))
}

func TestUpdate(t *testing.T) {
	update := rt.Update{
		CgroupParent: "/pod", Pod: rt.Resources{CPUShares: 1024, CPUQuota: 80000, CPUPeriod: 100000, MemoryLimit: 300},
		Containers: []rt.ContainerUpdate{
			{ID: "a", Name: "a", Resources: rt.Resources{CPUShares: 512, CPUQuota: 30000, CPUPeriod: 100000, MemoryLimit: 100}},
			{ID: "b", Name: "b", Resources: rt.Resources{MemoryLimit: 200}},
		},
	}
	t.Run("version 1", func(t *testing.T) {
		f := newTree(t, false)
		f.fill("pod memory.limit_in_bytes 150", "pod memory.memsw.limit_in_bytes 150", "pod memory.usage_in_bytes 120", "pod cpu.cfs_quota_us -1", "pod cpu.shares 2")
		f.fill("pod/a memory.limit_in_bytes 110", "pod/a memory.memsw.limit_in_bytes 110", "pod/a memory.usage_in_bytes 50", "pod/a cpu.cfs_quota_us 60000", "pod/a cpu.shares 2")
		f.fill("pod/b memory.limit_in_bytes 40", "pod/b memory.memsw.limit_in_bytes 40", "pod/b cpu.shares 7")
		if err := f.update(update, true); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, path := range []string{"pod", "pod/a", "pod/b"} {
			got[path] = strings.Join([]string{
				f.read(path, "memory.limit_in_bytes"), f.read(path, "memory.memsw.limit_in_bytes"), f.read(path, "cpu.cfs_quota_us"), f.read(path, "cpu.shares"),
			}, " ")
		}
		if diff := cmp.Diff(map[string]string{"pod": "300 300 80000 1024", "pod/a": "100 100 30000 512", "pod/b": "200 200  7"}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("version 2", func(t *testing.T) {
		f := newTree(t, true)
		f.fill("pod memory.max max", "pod memory.current 299", "pod cpu.max max 100000", "pod cpu.weight 1", "pod/a memory.max 50", "pod/a cpu.max 10000 100000", "pod/b memory.max max")
		if err := f.update(update, true); err != nil {
			t.Fatal(err)
		}
		got := []string{f.read("pod", "memory.max"), f.read("pod", "cpu.max"), f.read("pod", "cpu.weight"), f.read("pod/a", "memory.max"), f.read("pod/a", "cpu.max"), f.read("pod/b", "memory.max")}
		if diff := cmp.Diff([]string{"300", "80000 100000", "39", "100", "30000 100000", "200"}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("below what is used", func(t *testing.T) {
		f := newTree(t, false)
		f.fill("pod memory.limit_in_bytes 900", "pod memory.usage_in_bytes 500", "pod cpu.shares 2", "pod/a memory.limit_in_bytes 400", "pod/a memory.usage_in_bytes 100", "pod/b memory.limit_in_bytes 200", "pod/b memory.usage_in_bytes 200")
		err := f.update(update, true)
		want := "cannot decrease memory limits: attempting to set pod memory limit (300) below current usage (500)\nattempting to set container \"a\" memory limit (100) below current usage (100)"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if got := f.read("pod", "cpu.shares"); got != "2" {
			t.Errorf("cpu.shares of the pod is %s", got)
		}
	})
	t.Run("gone", func(t *testing.T) {
		if err := newTree(t, false).update(update, true); err != nil {
			t.Error(err)
		}
	})
}

// TestTurnOrder: the kernel refuses a limit of memory above that of memory and
// swap together, at every moment.
func TestTurnOrder(t *testing.T) {
	names := func(d *dial) (out []string) {
		for _, s := range d.settings {
			out = append(out, s.file)
		}
		return out
	}
	f := newTree(t, false)
	f.fill("a memory.limit_in_bytes 10", "a cpu.cfs_quota_us 10")
	dials := f.dials("a", rt.Resources{MemoryLimit: 20, CPUQuota: 5, CPUPeriod: 100}, true)
	if diff := cmp.Diff([]string{"memory.memsw.limit_in_bytes", "memory.limit_in_bytes"}, names(dials[memoryDial])); diff != "" {
		t.Error(diff)
	}
	if !dials[memoryDial].grows() || !dials[quotaDial].shrinks() || dials[sharesDial] != nil {
		t.Errorf("%+v", dials)
	}
}
