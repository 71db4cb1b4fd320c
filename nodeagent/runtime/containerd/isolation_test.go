package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// pinned makes namespaces and binds them to files, as the agent does for a pod.
func pinned(t *testing.T) rt.Namespaces {
	t.Helper()
	dir, err := os.MkdirTemp(daemon.dir, "ns")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	done := make(chan error)
	go func() { // its thread ends with it: it is locked, and is not what it was
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
		for _, kind := range []string{"net", "ipc", "uts"} {
			paths[kind] = filepath.Join(dir, kind)
			err = errors.Join(err, os.WriteFile(paths[kind], nil, 0o600),
				unix.Mount("/proc/thread-self/ns/"+kind, paths[kind], "", unix.MS_BIND, ""))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, path := range paths {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
	return rt.Namespaces{Net: paths["net"], IPC: paths["ipc"], UTS: paths["uts"]}
}

func namespaceOf(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

func TestNamespaces(t *testing.T) {
	need(t)
	n := newNode(t)
	shared := pinned(t)
	a := n.container("p1", "a", "sleep")
	b := n.container("p1", "b", "sleep")
	host := n.container("p2", "a", "sleep")
	a.Namespaces, b.Namespaces = shared, shared
	a.Hostname, b.Hostname = "lamp", "lamp"
	for _, c := range []rt.Container{a, b, host} {
		n.start(c)
	}
	for _, c := range []rt.Container{a, b} {
		proc := "/proc/" + strconv.Itoa(n.status(c.ID).PID) + "/ns/"
		for kind, path := range map[string]string{"net": shared.Net, "ipc": shared.IPC, "uts": shared.UTS} {
			if namespaceOf(t, proc+kind) != namespaceOf(t, path) {
				t.Errorf("%s: %s namespace is not the pinned one", c.ID, kind)
			}
		}
	}
	proc := "/proc/" + strconv.Itoa(n.status(host.ID).PID) + "/ns/"
	if namespaceOf(t, proc+"net") != namespaceOf(t, "/proc/self/ns/net") {
		t.Error("a container without a network namespace is not in the host's")
	}
	if namespaceOf(t, proc+"pid") == namespaceOf(t, "/proc/self/ns/pid") || namespaceOf(t, proc+"ipc") == namespaceOf(t, "/proc/self/ns/ipc") {
		t.Error("pid or IPC namespace is the host's")
	}
}

func TestSecurity(t *testing.T) {
	n := newNode(t)
	source := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(source, "f"), []byte("light"), 0o644), os.Chmod(source, 0o777)); err != nil {
		t.Fatal(err)
	}
	mounts := []rt.Mount{{Source: source, Destination: "/rw"}, {Source: source, Destination: "/ro", ReadOnly: true}}
	user := int64(0)
	for name, test := range map[string]struct {
		args []string
		sec  rt.Security
		code int
		says string
	}{
		"reads a mount":             {[]string{"cat", "/ro/f"}, rt.Security{}, 0, "light"},
		"writes a mount":            {[]string{"write", "/rw/g", "x"}, rt.Security{}, 0, ""},
		"read-only mount":           {[]string{"write", "/ro/g", "x"}, rt.Security{}, 1, "read-only"},
		"writes its root":           {[]string{"write", "/data/x", "x"}, rt.Security{}, 0, ""},
		"read-only root":            {[]string{"write", "/data/x", "x"}, rt.Security{ReadOnlyRootfs: true}, 1, "read-only"},
		"proc is guarded":           {[]string{"write", "/proc/sys/kernel/hostname", "x"}, rt.Security{RunAsUser: &user}, 1, "read-only"},
		"few capabilities":          {[]string{"cat", "/proc/self/status"}, rt.Security{RunAsUser: &user}, 0, "CapEff:\t00000000a80425fb"},
		"seccomp":                   {[]string{"cat", "/proc/self/status"}, rt.Security{}, 0, "Seccomp:\t2"},
		"privileged has no seccomp": {[]string{"cat", "/proc/self/status"}, rt.Security{Privileged: true}, 0, "Seccomp:\t0"},
		"privileged has devices":    {[]string{"write", "/dev/kmsg", ""}, rt.Security{Privileged: true, RunAsUser: &user}, 0, ""},
		"no new privileges":         {[]string{"cat", "/proc/self/status"}, rt.Security{NoNewPrivileges: true}, 0, "NoNewPrivs:\t1"},
		"cgroups are seen":          {[]string{"cat", "/proc/self/mountinfo"}, rt.Security{}, 0, "/sys/fs/cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.container("p1", strings.ReplaceAll(name, " ", "-"), test.args...)
			c.Security, c.Mounts = test.sec, mounts
			n.start(c)
			got := n.await(c.ID, "exited", exited)
			if log := n.awaitLog(c, test.says); got.ExitCode != test.code {
				t.Errorf("got %d %s", got.ExitCode, log)
			}
		})
	}
}
