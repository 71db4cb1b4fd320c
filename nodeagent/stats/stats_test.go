package stats

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func ptr(n uint64) *uint64 { return &n }

func TestParseCgroups(t *testing.T) {
	const (
		cpu    = "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
		memory = "31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
		second = "29 24 0:25 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	)
	for name, test := range map[string]struct {
		mountinfo string
		want      string
	}{
		"version 2": {"29 24 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "version 2 at /sys/fs/cgroup"},
		"version 1": {cpu + memory, "version 1: cpu=/sys/fs/cgroup/cpu,cpuacct cpuacct=/sys/fs/cgroup/cpu,cpuacct memory=/sys/fs/cgroup/memory"},
		"hybrid":    {second + memory, "version 1: memory=/sys/fs/cgroup/memory"},
	} {
		got, err := ParseCgroups(test.mountinfo)
		if err != nil || got.String() != test.want {
			t.Errorf("%s: got %q, %v", name, got.String(), err)
		}
	}
	if _, err := ParseCgroups("22 1 8:1 / / rw - ext4 /dev/sda rw\n"); err == nil {
		t.Error("no error without cgroups")
	}
}

// write makes files of a fixture.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadCgroups(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"v2/pod/cpu.stat":            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
		"v2/pod/memory.current":      "1000000\n",
		"v2/pod/memory.stat":         "anon 600000\nfile 400000\ninactive_file 300000\npgfault 17\npgmajfault 2\n",
		"v2/pod/memory.max":          "2000000\n",
		"v2/pod/memory.swap.current": "50\n",
		"v2/pod/memory.swap.max":     "max\n",
		"v2/pod/pids.current":        "4\n",

		"v1/cpu/pod/cpuacct.usage":            "1500000\n",
		"v1/memory/pod/memory.usage_in_bytes": "1000000\n",
		"v1/memory/pod/memory.stat": "cache 1\nrss 2\ninactive_file 3\nhierarchical_memory_limit 2000000\nhierarchical_memsw_limit 2000500\n" +
			"total_rss 600000\ntotal_inactive_file 300000\ntotal_pgfault 17\ntotal_pgmajfault 2\ntotal_swap 50\n",
		"v1/memory/free/memory.usage_in_bytes": "5\n",
		"v1/memory/free/memory.stat":           "hierarchical_memory_limit 9223372036854771712\ntotal_rss 3\ntotal_inactive_file 9\n",
		"v1/pids/pod/pids.current":             "4\n",
	})
	second := Cgroups{unified: filepath.Join(dir, "v2")}
	first := Cgroups{mounts: map[string]string{
		"cpuacct": filepath.Join(dir, "v1/cpu"), "memory": filepath.Join(dir, "v1/memory"), "pids": filepath.Join(dir, "v1/pids"),
	}}
	memory := Memory{Usage: 1000000, WorkingSet: 700000, RSS: 600000, Limit: ptr(2000000), Swap: ptr(50), Faults: 17, MajorFaults: 2}
	withSwap := memory
	withSwap.SwapLimit = ptr(500)
	for name, test := range map[string]struct {
		cgroups Cgroups
		path    string
		want    Usage
	}{
		"version 2":       {second, "/pod", Usage{CPU: ptr(1500000), Memory: &memory, Processes: ptr(4)}},
		"version 1":       {first, "/pod", Usage{CPU: ptr(1500000), Memory: &withSwap, Processes: ptr(4)}},
		"without a limit": {first, "/free", Usage{Memory: &Memory{Usage: 5, RSS: 3}}},
		"gone in 2":       {second, "/gone", Usage{}},
		"gone in 1":       {first, "/gone", Usage{}},
	} {
		if diff := cmp.Diff(test.want, test.cgroups.Read(test.path)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

const (
	procStat    = "cpu  100 10 50 1000 30 5 5 2 0 0\ncpu0 50 5 25 500 15 2 2 1 0 0\ncpu1 50 5 25 500 15 3 3 1 0 0\nintr 1\nbtime 1700000000\n"
	procMeminfo = "MemTotal:  1000 kB\nMemFree:  400 kB\nInactive(file):  100 kB\nAnonPages:  200 kB\nSwapTotal:  10 kB\nSwapFree:  4 kB\nHugePages_Total: 0\n"
	procNetDev  = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 2 3 0 0 0 0 0 200 4 5 0 0 0 0 0\n wlan0:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n"
	procRoute = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\nwlan0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\neth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
	procSelf  = "42 (a (name) here) S 1 42 42 0 -1 4194560 100 0 0 0 30 20 0 0 20 0 8 0 5000 1000000 250 18446744073709551615 1 1 0 0 0 0 0\n"
)

func TestParseProc(t *testing.T) {
	want := []Interface{{"eth0", 100, 3, 200, 5}, {"wlan0", 7, 0, 8, 0}}
	if diff := cmp.Diff(want, parseInterfaces(procNetDev)); diff != "" {
		t.Error(diff)
	}
	if got := defaultInterface(procRoute); got != "eth0" {
		t.Errorf("default interface is %q", got)
	}
	if busy, booted, err := parseStat(procStat); err != nil || busy != 172*tick || booted != 1700000000 || countCPUs(procStat) != 2 {
		t.Errorf("stat: %d, %d, %v", busy, booted, err)
	}
	if cpu, pages, err := parseProcess(procSelf); err != nil || cpu != 50*tick || pages != 250 {
		t.Errorf("process: %d, %d, %v", cpu, pages, err)
	}
	if n, err := parseLoad("0.1 0.2 0.3 2/345 6789\n"); err != nil || n != 345 {
		t.Errorf("load: %d, %v", n, err)
	}
	if m, err := parseMeminfo(procMeminfo); err != nil || m != (meminfo{1000 << 10, 400 << 10, 100 << 10, 200 << 10, 10 << 10, 4 << 10}) {
		t.Errorf("meminfo: %+v, %v", m, err)
	}
	for name, err := range map[string]error{
		"stat":    func() error { _, _, err := parseStat(""); return err }(),
		"process": func() error { _, _, err := parseProcess("1 (x) S"); return err }(),
		"load":    func() error { _, err := parseLoad("x"); return err }(),
		"meminfo": func() error { _, err := parseMeminfo("MemFree: 1 kB"); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRates(t *testing.T) {
	var r rates
	start := time.Unix(1000, 0)
	at := func(s int, cpu uint64) *uint64 {
		return r.of("c", sample{start.Add(time.Duration(s) * time.Second), cpu})
	}
	for i, step := range []struct {
		second int
		cpu    uint64
		want   *uint64
	}{
		{0, 100, nil}, {4, 500, ptr(100)}, {8, 500, ptr(50)}, // against the first
		{12, 1300, ptr(100)}, {14, 1500, ptr(100)}, // against the one at 12
		{200, 9999, nil},                // against nothing that says what is now
		{202, 10999, ptr(500)},          //
		{203, 5, nil}, {204, 6, ptr(1)}, // a new counter
	} {
		if diff := cmp.Diff(step.want, at(step.second, step.cpu)); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
	}
	r.keep(map[string]bool{})
	if r.known("c", start.Add(205*time.Second)) {
		t.Error("kept what was to be forgotten")
	}
}

type fakeDisk struct{ dir string }

func (d fakeDisk) DiskUsage(context.Context, string) (runtime.DiskUsage, error) {
	return runtime.DiskUsage{Bytes: 1000, Inodes: 3}, nil
}

func (d fakeDisk) ImageDisk(context.Context) (string, runtime.DiskUsage, error) {
	return d.dir, runtime.DiskUsage{Bytes: 5000, Inodes: 30}, nil
}

// newCollector measures a machine that is all files.
func newCollector(t *testing.T, pods ...Pod) *Collector {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"proc/self/mountinfo": "29 24 0:25 / " + dir + "/cgroup rw - cgroup2 cgroup2 rw\n",
		"proc/stat":           procStat, "proc/meminfo": procMeminfo, "proc/self/stat": procSelf, "proc/loadavg": "0 0 0 2/345 1\n",
		"proc/1/net/dev": procNetDev, "proc/1/net/route": procRoute, "proc/77/net/dev": procNetDev, "proc/vmstat": "pgfault 5\npgmajfault 1\n",
		"proc/sys/kernel/pid_max": "32768\n", "proc/sys/kernel/osrelease": "6.1\n", "proc/sys/kernel/random/boot_id": "b\n",
		"cgroup/n/cpu.stat":              "usage_usec 9000\n",
		"cgroup/n/podu/cpu.stat":         "usage_usec 8000\n",
		"cgroup/n/podu/memory.current":   "1000\n",
		"cgroup/n/podu/memory.stat":      "anon 600\ninactive_file 300\n",
		"cgroup/n/podu/pids.current":     "4\n",
		"cgroup/n/podu/c/cpu.stat":       "usage_usec 7000\n",
		"cgroup/n/podu/c/memory.current": "900\n",
		"cgroup/n/podu/c/memory.stat":    "anon 500\ninactive_file 200\n",
		"volume/file":                    strings.Repeat("x", 100),
	})
	for i := range pods {
		for j := range pods[i].Volumes {
			pods[i].Volumes[j].Path = filepath.Join(dir, "volume")
		}
	}
	c, err := New(Config{
		Node: "n1", Dir: dir, Cgroup: "/n", Pods: func() []Pod { return pods }, Disk: fakeDisk{dir}, Proc: filepath.Join(dir, "proc"),
		Logs: func(Pod, Container) (int64, int64) { return 200, 2 },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func somePod() Pod {
	return Pod{
		UID: "u", Namespace: "default", Name: "web", Cgroup: "/n/podu", Started: time.Unix(1, 0),
		Containers: []Container{{ID: "c", Name: "main", Cgroup: "/n/podu/c", PID: 77, Started: time.Unix(2, 0)}},
		Volumes:    []Volume{{Name: "data", Ephemeral: true}, {Name: "kept", Claim: "claim"}},
	}
}

func TestSummary(t *testing.T) {
	c := newCollector(t, somePod())
	s, err := c.Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pods) != 1 || len(s.Pods[0].Containers) != 1 || len(s.Pods[0].VolumeStats) != 2 {
		t.Fatalf("got %+v", s)
	}
	p := s.Pods[0]
	main, disk := p.Containers[0], *p.VolumeStats[0].UsedBytes
	for name, pair := range map[string][2]uint64{
		"node memory":       {500 << 10, *s.Node.Memory.WorkingSetBytes},
		"node available":    {500 << 10, *s.Node.Memory.AvailableBytes},
		"node CPU":          {172 * tick, *s.Node.CPU.UsageCoreNanoSeconds},
		"node swap":         {6 << 10, *s.Node.Swap.SwapUsageBytes},
		"node network":      {100, *s.Node.Network.RxBytes},
		"images":            {5000, *s.Node.Runtime.ImageFs.UsedBytes},
		"pod CPU":           {8000000, *p.CPU.UsageCoreNanoSeconds},
		"pod memory":        {700, *p.Memory.WorkingSetBytes},
		"pod network":       {200, *p.Network.TxBytes},
		"pod processes":     {4, *p.ProcessStats.ProcessCount},
		"ephemeral storage": {1000 + 200 + disk, *p.EphemeralStorage.UsedBytes},
		"container CPU":     {7000000, *main.CPU.UsageCoreNanoSeconds},
		"container rate":    {0, *main.CPU.UsageNanoCores},
		"container memory":  {700, *main.Memory.WorkingSetBytes},
		"root":              {1000, *main.Rootfs.UsedBytes},
		"logs":              {200, *main.Logs.UsedBytes},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: want %d, got %d", name, pair[0], pair[1])
		}
	}
	if disk < 4096 || p.VolumeStats[1].PVCRef.Name != "claim" || *s.Node.Rlimit.NumOfRunningProcesses != 345 {
		t.Errorf("got %+v", s)
	}
	if again, err := c.Summary(t.Context()); err != nil || again != s {
		t.Errorf("measured again at once: %v", err)
	}
	m, err := c.Machine(t.Context())
	if err != nil || m.Cores != 2 || m.Memory != 1000<<10 || m.Kernel != "6.1" || m.BootID != "b" || m.MaxProcesses != 32768 || m.Images.Capacity == 0 {
		t.Errorf("machine: %+v, %v", m, err)
	}
}

func TestResourceMetrics(t *testing.T) {
	at := metav1.NewTime(time.UnixMilli(1234))
	cpu := &statsapi.CPUStats{Time: at, UsageCoreNanoSeconds: ptr(1500000000)}
	memory := &statsapi.MemoryStats{Time: at, WorkingSetBytes: ptr(4096)}
	s := &statsapi.Summary{
		Node: statsapi.NodeStats{NodeName: "n1", CPU: cpu, Memory: memory},
		Pods: []statsapi.PodStats{{
			PodRef: statsapi.PodReference{Namespace: "default", Name: "web"}, CPU: cpu,
			Containers: []statsapi.ContainerStats{{Name: "main", StartTime: metav1.Unix(7, 0), Memory: memory}},
		}},
	}
	var out bytes.Buffer
	if err := writeResources(&out, s); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	want := []string{
		`node_cpu_usage_seconds_total 1.5 1234`,
		`node_memory_working_set_bytes 4096 1234`,
		`pod_cpu_usage_seconds_total{namespace="default",pod="web"} 1.5 1234`,
		`container_memory_working_set_bytes{container="main",namespace="default",pod="web"} 4096 1234`,
		`container_start_time_seconds{container="main",namespace="default",pod="web"} 7`,
		`resource_scrape_error 0`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}
