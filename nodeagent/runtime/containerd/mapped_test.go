package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/testdata/images"
)

const firstUser = 50 << 16

// ownUsers pins a user namespace and the others in it, as the agent does for a
// pod.
func ownUsers(t *testing.T) rt.Namespaces {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp(daemon.dir, "ns")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	ids := []syscall.SysProcIDMap{{HostID: firstUser, Size: 1 << 16}}
	done := make(chan error)
	go func() { // the process is bound to the thread
		runtime.LockOSThread()
		p, err := os.StartProcess("/proc/self/exe", []string{"namespaces"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
			Ptrace:     true, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		}})
		for _, kind := range []string{"user", "net", "ipc", "uts"} {
			if err != nil {
				break
			}
			paths[kind] = filepath.Join(dir, kind)
			err = errors.Join(os.WriteFile(paths[kind], nil, 0o600), unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", p.Pid, kind), paths[kind], "", unix.MS_BIND, ""))
		}
		if p != nil {
			err = errors.Join(err, p.Kill())
			_, _ = p.Wait()
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
	return rt.Namespaces{User: paths["user"], Net: paths["net"], IPC: paths["ipc"], UTS: paths["uts"], FirstUser: firstUser, Users: 1 << 16}
}

// TestOwnUsers: root of such a container is nobody on the machine, and yet
// everything it is given has the IDs that it has on disk.
func TestOwnUsers(t *testing.T) {
	n := newNode(t)
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	if err := errors.Join(os.Mkdir(memory, 0o755), unix.Mount("tmpfs", memory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(memory, unix.MNT_DETACH) })
	for name, mode := range map[string]os.FileMode{"mine": 0o600, "theirs": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(filepath.Join(dir, "theirs"), 1000, 1001), os.WriteFile(filepath.Join(memory, "f"), []byte("quick"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, keeper := int64(0), int64(1000)
	shared := ownUsers(t)
	for name, test := range map[string]struct {
		args []string
		sec  rt.Security
		code int
		says string
	}{
		"who it is":           {[]string{"id"}, rt.Security{RunAsUser: &root}, 0, "uid=0 gid=0"},
		"whose IDs":           {[]string{"cat", "/proc/self/uid_map", "/proc/self/gid_map"}, rt.Security{}, 0, "0    3276800      65536"},
		"reads what root has": {[]string{"cat", "/rw/mine"}, rt.Security{RunAsUser: &root}, 0, "mine"},
		"reads its own":       {[]string{"cat", "/rw/theirs"}, rt.Security{RunAsUser: &keeper}, 0, "theirs"},
		"not what root has":   {[]string{"cat", "/rw/mine"}, rt.Security{RunAsUser: &keeper}, 1, "permission denied"},
		"reads memory":        {[]string{"cat", "/memory/f"}, rt.Security{RunAsUser: &root}, 0, "quick"},
		"read-only memory":    {[]string{"write", "/memory/g", "x"}, rt.Security{RunAsUser: &root}, 1, "read-only"},
		"one file":            {[]string{"cat", "/file"}, rt.Security{RunAsUser: &root}, 0, "mine"},
		"writes a mount":      {[]string{"write", "/rw/g", "x"}, rt.Security{RunAsUser: &root}, 0, ""},
		"writes its root":     {[]string{"write", "/etc/x", "x"}, rt.Security{RunAsUser: &root}, 0, ""},
		"read-only root":      {[]string{"write", "/etc/x", "x"}, rt.Security{RunAsUser: &root, ReadOnlyRootfs: true}, 1, "read-only"},
		"writes its output":   {[]string{"write", "/dev/stdout", "hello"}, rt.Security{RunAsUser: &keeper}, 0, "hello"},
		"proc is guarded":     {[]string{"write", "/proc/sys/net/ipv4/ip_forward", "1"}, rt.Security{RunAsUser: &root, AddCapabilities: []string{"NET_ADMIN"}}, 1, "read-only"},
		"proc is its own":     {[]string{"write", "/proc/sys/net/ipv4/ip_forward", "1"}, rt.Security{RunAsUser: &root, AddCapabilities: []string{"NET_ADMIN"}, UnmaskedProc: true, AppArmor: rt.AppArmor{Unconfined: true}}, 0, ""},
		"privileged":          {[]string{"write", "/proc/sys/net/ipv4/ip_forward", "0"}, rt.Security{RunAsUser: &root, Privileged: true}, 0, ""},
		"not the machine":     {[]string{"write", "/proc/sys/kernel/panic", "0"}, rt.Security{RunAsUser: &root, Privileged: true}, 1, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.container("p1", strings.ReplaceAll(name, " ", "-"), test.args...)
			c.Security, c.Namespaces = test.sec, shared
			c.Mounts = []rt.Mount{
				{Source: dir, Destination: "/rw"},
				{Source: memory, Destination: "/memory", ReadOnly: true},
				{Source: filepath.Join(dir, "mine"), Destination: "/file", ReadOnly: true, RecursiveReadOnly: true},
			}
			n.start(c)
			got := n.await(c.ID, "exited", exited)
			if log := n.awaitLog(c, test.says); got.ExitCode != test.code {
				t.Errorf("got %d %s", got.ExitCode, log)
			}
		})
	}
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "g"), &stat); err != nil || stat.Uid != 0 || stat.Gid != 0 {
		t.Errorf("what root of the pod wrote is %d:%d's on disk, %v", stat.Uid, stat.Gid, err)
	}
	c := n.container("p1", "runs", "sleep")
	c.Namespaces = shared
	n.start(c)
	if err := unix.Stat("/proc/"+strconv.Itoa(n.status(c.ID).PID), &stat); err != nil || stat.Uid != firstUser+1000 {
		t.Errorf("on the machine the process is %d's, %v", stat.Uid, err)
	}
	if code, out, err := n.Exec(t.Context(), c.ID, []string{"/tool", "id"}, 100); err != nil || code != 0 || !strings.HasPrefix(string(out), "uid=1000") {
		t.Errorf("a command in it: %d %s %v", code, out, err)
	}
	var said, input bytes.Buffer
	input.WriteString("hello")
	for _, command := range []rt.Command{{Args: []string{"/tool", "id"}, Stdout: &said, TTY: true}, {Args: []string{"/tool", "cat", "/dev/stdin"}, Stdin: &input, Stdout: &said}} {
		if code, err := n.Stream(t.Context(), c.ID, command); err != nil || code != 0 {
			t.Errorf("%v: %d, %v", command.Args, code, err)
		}
	}
	if !strings.HasPrefix(said.String(), "uid=1000") || !strings.HasSuffix(said.String(), "hello") {
		t.Errorf("commands in it said %q", said.String())
	}
	if left := mountsOf(t, " "+n.mappedDir()); len(left) != 1 {
		t.Errorf("mounts are left: %v", left)
	}
}

// TestOwnUsersOfLayers: an image of several layers has its own IDs as a root
// file system and as a volume.
func TestOwnUsersOfLayers(t *testing.T) {
	n := newNode(t)
	layer, err := random.Layer(1<<10, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	deep, err := mutate.AppendLayers(daemon.image, layer)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]v1.Image{"one": daemon.image, "two": deep} {
		t.Run(name, func(t *testing.T) {
			ref, path := "evenkeel.io/"+name+":1", filepath.Join(t.TempDir(), "image.tar")
			if err := images.Save(from, ref, path); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Import(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			target, namespaces := t.TempDir(), ownUsers(t)
			if err := n.MountImage(t.Context(), rt.ImageMount{PodUID: name, Volume: "v", Image: ref, Target: target, User: namespaces.User}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
			var stat unix.Stat_t
			if err := unix.Stat(filepath.Join(target, "tool"), &stat); err != nil || stat.Uid != firstUser {
				t.Errorf("in the volume root's files are %d's: %v", stat.Uid, err)
			}
			c := n.container(name, "a", "write", "/etc/passwd", "x")
			c.Image, c.Namespaces, c.Security.RunAsUser = ref, namespaces, new(int64)
			c.Mounts = []rt.Mount{{Source: target, Destination: "/v", ReadOnly: true, NoExec: true, Mapped: true}}
			n.start(c)
			if got := n.await(c.ID, "exited", exited); got.ExitCode != 0 {
				t.Errorf("root cannot write root's files: %s", outputs(c))
			}
			c.ID, c.Args = c.ID+"-2", []string{"/v/tool", "id"}
			if err := n.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("a program of the volume: %v", err)
			}
			if left := mountsOf(t, " "+n.mappedDir()); len(left) != 1 {
				t.Errorf("mounts are left: %v", left)
			}
			if err := errors.Join(unix.Unmount(target, 0), n.ReleaseImages(t.Context(), name)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOwnUsersShareProcesses: the holder of a process namespace has the pod's
// users too.
func TestOwnUsersShareProcesses(t *testing.T) {
	n := newNode(t)
	namespaces := ownUsers(t)
	pid, err := n.StartInit(t.Context(), rt.Container{
		ID: n.cfg.Node + "-p1-init", Name: rt.PodInit, Pod: rt.PodRef{UID: n.cfg.Node + "p1"}, CgroupParent: n.cfg.CgroupRoot + "/podp1", Namespaces: namespaces,
	})
	if err != nil {
		t.Fatal(err)
	}
	namespaces.PID = fmt.Sprintf("/proc/%d/ns/pid", pid)
	c := n.container("p1", "a", "ps")
	c.Namespaces = namespaces
	n.start(c)
	n.awaitLog(c, "1 init")
}

func TestOwnUsersRefused(t *testing.T) {
	n := newNode(t)
	namespaces := ownUsers(t)
	far := int64(70000)
	for name, test := range map[string]struct {
		change func(*rt.Container)
		want   string
	}{
		"a user that it has not":  {func(c *rt.Container) { c.Security.RunAsUser = &far }, "it would run as user or group 70000, but with hostUsers: false a pod has 0 to 65535"},
		"a file system that will": {func(c *rt.Container) { c.Mounts = []rt.Mount{{Source: "/proc/sys", Destination: "/x"}} }, "mount /proc/sys for"},
	} {
		t.Run(name, func(t *testing.T) {
			c := n.container("p1", "a", "sleep")
			c.Namespaces = namespaces
			test.change(&c)
			if err := n.Start(t.Context(), c); !errors.Is(err, rt.ErrConfig) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.MkdirAll(filepath.Join(closed, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := reachable(filepath.Join(closed, "state")); !errors.Is(err, rt.ErrConfig) || !strings.Contains(err.Error(), "/closed/state does not allow: chmod o+x it") {
		t.Errorf("a state directory that is closed: %v", err)
	}
	if left := mountsOf(t, " "+n.mappedDir()); len(left) > 1 {
		t.Errorf("mounts are left: %v", left)
	}
}

// TestMappedMountsAreSwept: what an agent that was killed in a start left goes,
// and nothing that is mounted there does.
func TestMappedMountsAreSwept(t *testing.T) {
	n := newNode(t)
	source := t.TempDir()
	below := filepath.Join(source, "below")
	// What is unmounted in one of two places of a shared mount goes in the other too.
	if err := errors.Join(unix.Mount("tmpfs", source, "tmpfs", 0, ""), unix.Mount("", source, "", unix.MS_SHARED, ""),
		os.Mkdir(below, 0o755), unix.Mount("tmpfs", below, "tmpfs", 0, ""),
		os.WriteFile(filepath.Join(source, "f"), []byte("kept"), 0o600), os.WriteFile(filepath.Join(below, "g"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(source, unix.MNT_DETACH) })
	c := n.container("p1", "a", "sleep")
	c.Namespaces = ownUsers(t)
	c.Mounts = []rt.Mount{{Source: source, Destination: "/x", Propagation: rt.BothWays}, {Source: filepath.Join(source, "f"), Destination: "/f"}}
	if _, err := n.mapMounts(c, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := n.mapMounts(c, nil); err != nil { // as after a kill in a start, once more
		t.Fatal(err)
	}
	n.starting[c.ID] = true
	if err := n.sweepMapped(); err != nil || len(mountsOf(t, " "+n.mappedDir())) != 4 {
		t.Errorf("mounts of a start under way: %v, %v", err, mountsOf(t, " "+n.mappedDir()))
	}
	delete(n.starting, c.ID)
	if err := n.sweepMapped(); err != nil || len(mountsOf(t, " "+n.mappedDir())) != 1 {
		t.Errorf("mounts of a start that is over: %v, %v", err, mountsOf(t, " "+n.mappedDir()))
	}
	if _, err := os.Stat(filepath.Join(below, "g")); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(source, "f")); string(data) != "kept" {
		t.Errorf("what was mounted is %q now: %v", data, err)
	}
	if err := n.removeMapped(); err != nil || len(mountsOf(t, " "+n.mappedDir())) != 0 {
		t.Errorf("mounts of a node that is removed: %v, %v", err, mountsOf(t, " "+n.mappedDir()))
	}
}

func TestMapSources(t *testing.T) {
	got := mapSources([]rt.Mount{
		{Source: "/a", Destination: "/x", ReadOnly: true, RecursiveReadOnly: true},
		{Source: "/b", Destination: "/y", Propagation: rt.FromMachine},
	}, "/run/mapped", "id")
	want := []rt.Mount{
		{Source: "/run/mapped/id/m0", Destination: "/x"},
		{Source: "/run/mapped/id/m1", Destination: "/y", Propagation: rt.FromMachine},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
