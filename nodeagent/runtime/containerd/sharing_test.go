package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// The containers of a pod see one another's processes, an init adopts what
// they leave, and the end of one is not that of the others.
func TestSharedProcessNamespace(t *testing.T) {
	n := newNode(t)
	holder := rt.Container{
		ID: n.cfg.Node + "-p1-init", Name: rt.PodInit, Pod: rt.PodRef{UID: n.cfg.Node + "p1", Namespace: "default", Name: "pod-p1"},
		CgroupParent: n.cfg.CgroupRoot + "/podp1", PodResources: rt.Resources{CPUShares: 512, MemoryLimit: 64 << 20},
	}
	pid, err := n.StartInit(t.Context(), holder)
	if err != nil {
		t.Fatal(err)
	}
	if got := n.status(holder.ID); got.PID != pid || got.State != rt.Running || got.Name != rt.PodInit {
		t.Errorf("the holder is %+v, pid %d", got, pid)
	}
	shared := rt.Namespaces{PID: fmt.Sprintf("/proc/%d/ns/pid", pid)}
	a, b := n.container("p1", "a", "orphan"), n.container("p1", "b", "sleep")
	a.Namespaces, b.Namespaces, b.PodResources = shared, shared, holder.PodResources
	n.start(a)
	n.start(b)
	n.await(a.ID, "exited", exited)
	for _, kind := range []string{"pid"} {
		own := fmt.Sprintf("/proc/%d/ns/%s", n.status(b.ID).PID, kind)
		if namespaceOf(t, own) != namespaceOf(t, shared.PID) {
			t.Errorf("%s namespace is not shared", kind)
		}
	}
	if got := n.status(b.ID); got.State != rt.Running {
		t.Errorf("the end of a ended b: %+v", got)
	}
	seen := n.container("p1", "c", "ps")
	seen.Namespaces = shared
	n.start(seen)
	n.await(seen.ID, "exited", exited)
	log := n.awaitLog(seen, "1 init")
	if !strings.Contains(log, "tool") || strings.Contains(log, "Z") {
		t.Errorf("processes are\n%s", log)
	}
	for file, want := range map[string]string{"cpu/cpu.shares": "512", "memory/memory.limit_in_bytes": strconv.Itoa(64 << 20)} {
		controller, name, _ := strings.Cut(file, "/")
		mount := n.cgroups.controllers[controller]
		if mount == "" {
			continue
		}
		got, err := os.ReadFile(filepath.Join(mount, holder.CgroupParent, name))
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s of the pod is %q, %v", file, got, err)
		}
	}
	if err := n.Kill(t.Context(), holder.ID); err != nil {
		t.Fatal(err)
	}
	n.await(b.ID, "exited with its init", exited)
	for _, id := range []string{a.ID, b.ID, seen.ID, holder.ID} {
		if err := n.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	for _, mount := range n.cgroups.mounts {
		if _, err := os.Stat(filepath.Join(mount, holder.CgroupParent)); err == nil {
			t.Errorf("the pod's cgroup is left in %s", mount)
		}
	}
}

func TestHostNamespaces(t *testing.T) {
	n := newNode(t)
	c := n.container("p1", "a", "family")
	c.Namespaces = rt.Namespaces{HostPID: true, HostIPC: true}
	n.start(c)
	pid := n.status(c.ID).PID
	for _, kind := range []string{"pid", "ipc"} {
		if namespaceOf(t, fmt.Sprintf("/proc/%d/ns/%s", pid, kind)) != namespaceOf(t, "/proc/self/ns/"+kind) {
			t.Errorf("%s namespace is not the machine's", kind)
		}
	}
	if err := n.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	n.await(c.ID, "exited", exited)
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Error(err)
	}
	if left := n.cgroups.processes(c.CgroupParent + "/" + c.ID); len(left) > 0 {
		t.Errorf("processes %v outlive their container", left)
	}
}

// TestConfinement: sysctls, seccomp profiles, proc, groups, mounts.
func TestConfinement(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	profile := filepath.Join(dir, "profile.json")
	deny := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`
	below := filepath.Join(dir, "tree", "below")
	err := errors.Join(os.WriteFile(profile, []byte(deny), 0o600), os.MkdirAll(below, 0o777), unix.Mount("tmpfs", below, "tmpfs", 0, "mode=0777"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(below, unix.MNT_DETACH) })
	net := pinned(t)
	user := int64(1000)
	for name, test := range map[string]struct {
		args   []string
		change func(*rt.Container)
		code   int
		says   string
	}{
		"sysctl": {[]string{"cat", "/proc/sys/net/ipv4/ip_local_port_range"}, func(c *rt.Container) {
			c.Namespaces, c.Sysctls = net, map[string]string{"net.ipv4.ip_local_port_range": "2000 3000"}
		}, 0, "2000\t3000"},
		"unconfined":  {[]string{"cat", "/proc/self/status"}, func(c *rt.Container) { c.Security.Seccomp.Unconfined = true }, 0, "Seccomp:\t0"},
		"own profile": {[]string{"mkdir", "/data/x"}, func(c *rt.Container) { c.Security.Seccomp.Profile = profile }, 1, "not permitted"},
		"masked":      {[]string{"cat", "/proc/keys"}, func(*rt.Container) {}, 0, ""},
		"unmasked":    {[]string{"cat", "/proc/interrupts"}, func(c *rt.Container) { c.Security.UnmaskedProc = true }, 0, "CPU0"},
		"groups":      {[]string{"id"}, func(c *rt.Container) { c.Security.RunAsUser = &user }, 0, "groups=[1001 1002]"},
		"strict groups": {[]string{"id"}, func(c *rt.Container) {
			c.Security.RunAsUser, c.Security.StrictGroups, c.Security.SupplementalGroups = &user, true, []int64{77}
		}, 0, "groups=[77 1001]"},
		"below a read-only mount": {[]string{"write", "/t/below/x", "x"}, func(c *rt.Container) {
			c.Mounts = []rt.Mount{{Source: filepath.Join(dir, "tree"), Destination: "/t", ReadOnly: true}}
		}, 0, ""},
		"below a recursively read-only mount": {[]string{"write", "/t/below/x", "x"}, func(c *rt.Container) {
			c.Mounts = []rt.Mount{{Source: filepath.Join(dir, "tree"), Destination: "/t", ReadOnly: true, RecursiveReadOnly: true}}
		}, 1, "read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.container("p1", strings.ReplaceAll(name, " ", "-"), test.args...)
			test.change(&c)
			n.start(c)
			got := n.await(c.ID, "exited", exited)
			if log := n.awaitLog(c, test.says); got.ExitCode != test.code {
				t.Errorf("got %d %s", got.ExitCode, log)
			}
		})
	}
	missing := n.container("p1", "no-profile", "id")
	missing.Security.Seccomp.Profile = filepath.Join(dir, "none.json")
	if err := n.Start(t.Context(), missing); !errors.Is(err, rt.ErrConfig) || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("missing profile: %v", err)
	}
}

// What is mounted later on one side is seen on the other, as asked for.
func TestMountPropagation(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	if err := errors.Join(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0777"), unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""), os.Mkdir(dir+"/m", 0o777), os.Mkdir(dir+"/n", 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(dir+"/m", unix.MNT_DETACH) == nil || unix.Unmount(dir+"/n", unix.MNT_DETACH) == nil || unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
	})
	root := int64(0)
	start := func(name string, p rt.Propagation, args ...string) rt.Container {
		c := n.container("p1", name, args...)
		c.Mounts = []rt.Mount{{Source: dir, Destination: "/t", Propagation: p}}
		c.Security = rt.Security{Privileged: true, RunAsUser: &root}
		return n.start(c)
	}
	slave := start("slave", rt.FromMachine, "await", "/t/m/seen")
	private := start("private", rt.Private, "await", "/t/m/seen")
	if err := errors.Join(unix.Mount("tmpfs", dir+"/m", "tmpfs", 0, ""), os.WriteFile(dir+"/m/seen", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	if got := n.await(slave.ID, "exited", exited); got.ExitCode != 0 {
		t.Errorf("a slave mount does not see what the machine mounts: %d", got.ExitCode)
	}
	if got := n.status(private.ID); got.State != rt.Running {
		t.Error("a private mount sees what the machine mounts")
	}
	both := start("both", rt.BothWays, "mount", "/t/n")
	n.await(both.ID, "exited", exited)
	var stat unix.Statfs_t
	if err := unix.Statfs(dir+"/n", &stat); err != nil || stat.Type != unix.TMPFS_MAGIC {
		t.Errorf("the machine does not see what a container mounts: %v", err)
	}
}

func TestSettings(t *testing.T) {
	all := rt.Resources{CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20}
	for name, test := range map[string]struct {
		r             rt.Resources
		unified, swap bool
		want          []setting
	}{
		"nothing": {},
		"version 1": {all, false, true, []setting{
			{"cpu", "cpu.shares", "512"},
			{"cpu", "cpu.cfs_period_us", "100000"},
			{"cpu", "cpu.cfs_quota_us", "50000"},
			{"memory", "memory.limit_in_bytes", "1048576"},
			{"memory", "memory.memsw.limit_in_bytes", "1048576"},
		}},
		"version 1 without swap": {rt.Resources{MemoryLimit: 9}, false, false, []setting{{"memory", "memory.limit_in_bytes", "9"}}},
		"version 2": {all, true, true, []setting{
			{"cpu", "cpu.weight", "20"}, {"cpu", "cpu.max", "50000 100000"}, {"memory", "memory.max", "1048576"}, {"memory", "memory.swap.max", "0"},
		}},
		"least weight": {rt.Resources{CPUShares: 2}, true, true, []setting{{"cpu", "cpu.weight", "1"}}},
		"most weight":  {rt.Resources{CPUShares: 262144}, true, true, []setting{{"cpu", "cpu.weight", "10000"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, settings(test.r, test.unified, test.swap), cmp.AllowUnexported(setting{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A cgroup of version 2 gets its controllers from each one above it.
func TestShapeUnified(t *testing.T) {
	root := t.TempDir()
	c := cgroups{mounts: []string{root}, unified: true}
	dir := filepath.Join(root, "evenkeel", "n1", "podx")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.shape("/evenkeel/n1/podx", rt.Resources{CPUShares: 512, MemoryLimit: 7}, true); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cgroup.subtree_control": "+cpu +memory +pids", "evenkeel/cgroup.subtree_control": "+cpu +memory +pids", "evenkeel/n1/cgroup.subtree_control": "+cpu +memory +pids",
		"evenkeel/n1/podx/cpu.weight": "20", "evenkeel/n1/podx/memory.max": "7",
	} {
		if got, err := os.ReadFile(filepath.Join(root, file)); string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.subtree_control")); err == nil {
		t.Error("the pod's own cgroup hands controllers down, which is the OCI runtime's to do")
	}
}

func TestInitProgram(t *testing.T) {
	for arch, program := range initPrograms {
		if len(program) > 256 || string(program[:4]) != "\x7fELF" {
			t.Errorf("%s: %d bytes, %q", arch, len(program), program[:4])
		}
	}
}
