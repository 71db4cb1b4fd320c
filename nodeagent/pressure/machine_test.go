package pressure

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine lays files as /proc and /sys/fs/cgroup have them.
func machine(t *testing.T, files map[string]string) Machine {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{Proc: filepath.Join(dir, "proc"), Cgroups: filepath.Join(dir, "cgroup")}
}

const meminfo = "MemTotal:       1000 kB\nMemFree:         200 kB\nMemAvailable:    900 kB\nInactive(file):  300 kB\n"

func TestObserveMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  Observation
	}{
		"version 1": {map[string]string{
			"proc/meminfo": meminfo, "cgroup/memory/memory.usage_in_bytes": "700000\n",
			"cgroup/memory/memory.stat": "cache 1\ninactive_file 1\ntotal_inactive_file 100000\n",
		}, Observation{Available: 1000<<10 - 600000, Capacity: 1000 << 10}},
		"version 2": {map[string]string{"proc/meminfo": meminfo}, Observation{Available: 500 << 10, Capacity: 1000 << 10}},
	} {
		got, err := machine(t, tc.files).memory()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestObserveProcesses(t *testing.T) {
	m := machine(t, map[string]string{"proc/sys/kernel/pid_max": "4194304\n", "proc/sys/kernel/threads-max": "2000\n", "proc/loadavg": "0.1 0.2 0.3 2/173 8934\n"})
	got, err := m.processes()
	if diff := cmp.Diff(Observation{Available: 1827, Capacity: 2000}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestCgroups(t *testing.T) {
	v1 := machine(t, map[string]string{
		"cgroup/memory/a/memory.usage_in_bytes": "500", "cgroup/memory/a/memory.stat": "total_inactive_file 100\n", "cgroup/pids/a/pids.current": "7\n", "cgroup/pids/a/pids.events": "max 3\n",
	})
	v2 := machine(t, map[string]string{"cgroup/a/memory.current": "500", "cgroup/a/memory.stat": "inactive_file 100\n", "cgroup/a/pids.current": "7\n", "cgroup/a/pids.events": "max 3\n"})
	for name, m := range map[string]Machine{"version 1": v1, "version 2": v2} {
		if memory, processes := m.CgroupMemory("/a"), m.CgroupProcesses("/a"); memory != 400 || processes != 7 {
			t.Errorf("%s: %d bytes, %d processes", name, memory, processes)
		}
		if refused := m.CgroupForksRefused("/a"); refused != 3 {
			t.Errorf("%s: %d forks refused", name, refused)
		}
		if memory, processes := m.CgroupMemory("/gone"), m.CgroupProcesses("/gone"); memory != 0 || processes != 0 {
			t.Errorf("%s: what is gone has %d bytes, %d processes", name, memory, processes)
		}
	}
}

// The real machine is measured whole.
func TestObserve(t *testing.T) {
	dir := t.TempDir()
	got, separate, err := Machine{}.Observe(dir, filepath.Join(dir, "not", "yet"))
	if err != nil || separate {
		t.Errorf("%v, separate %v", err, separate)
	}
	for _, signal := range []Signal{MemoryAvailable, NodeFSAvailable, ImageFSAvailable, PIDAvailable} {
		if seen, ok := got[signal]; !ok || seen.Available > seen.Capacity {
			t.Errorf("%s: %+v, %v", signal, seen, ok)
		}
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a", "file")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, mi), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	got, err := Tree(t.Context(), dir)
	if err != nil || got.Bytes < mi || got.Bytes > mi+64<<10 || got.Inodes != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Tree(t.Context(), filepath.Join(dir, "gone")); err != nil || got != (Disk{}) {
		t.Errorf("what is not there takes %+v, %v", got, err)
	}
}
