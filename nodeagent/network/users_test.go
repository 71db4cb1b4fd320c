package network

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func pinOnly(n *Network, pod Pod) error {
	_, err := n.pin(pod)
	return err
}

// TestOwnUsers: every pod has its own part of the machine's user IDs, for as
// long as it is pinned, whoever looks.
func TestOwnUsers(t *testing.T) {
	w := newWorld(t)
	w.cfg.Users = UserRange{First: 3 * UsersPerPod, Pods: 3}
	first := newNode(t, w.node, w.cfg)
	a := setup(t, first, Pod{UID: "a", Name: "a", Hostname: "lamp", OwnUsers: true})
	b := setup(t, first, Pod{UID: "b", Name: "b", OwnUsers: true})
	if box := setup(t, first, Pod{UID: "c", Name: "c"}); box.UserNS != "" {
		t.Errorf("a pod that did not ask has users of its own at %s", box.UserNS)
	}
	if got, want := runIn(t, a, "cat", "/proc/self/uid_map", "/proc/self/gid_map"), "0 196608 65536 0 196608 65536"; got != want {
		t.Errorf("IDs of pod a are %q, want %q", got, want)
	}
	if got := runIn(t, a, "hostname"); got != "lamp" {
		t.Errorf("the pod's hostname is %q", got)
	}
	for _, path := range []string{a.NetNS, a.UTSNS, a.IPCNS} {
		if owner(t, path) != inode(t, a.UserNS) {
			t.Errorf("%s is not owned by the pod's user namespace", path)
		}
	}

	serveTCP(t, openNS(t, a.NetNS), ":80")
	wantAnswer(t, openNS(t, b.NetNS), "tcp4", a.IP.String()+":80", b.IP.String())

	second := newNode(t, w.node, w.cfg)
	if diff := cmp.Diff(a, setup(t, second, Pod{UID: "a", Name: "a", OwnUsers: true}), compareIPs); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	d := setup(t, second, Pod{UID: "d", Name: "d", OwnUsers: true})
	if got := []uint32{a.FirstUser, b.FirstUser, d.FirstUser}; !cmp.Equal(got, []uint32{196608, 262144, 327680}) {
		t.Errorf("first IDs are %v", got)
	}
	if _, err := second.Setup(t.Context(), Pod{UID: "e", Name: "e", OwnUsers: true}); err == nil || !strings.Contains(err.Error(), "all 3 ranges of user IDs are taken") {
		t.Errorf("a fourth pod: %v", err)
	}
	must(t, second.Teardown(t.Context(), "a"))
	must(t, second.Teardown(t.Context(), "e"))
	if _, err := os.Stat(second.podDir("a")); !os.IsNotExist(err) {
		t.Errorf("pins of a pod that is gone: %v", err)
	}
	if e := setup(t, second, Pod{UID: "e", Name: "e", OwnUsers: true}); e.FirstUser != a.FirstUser {
		t.Errorf("a freed range is not used again: %d", e.FirstUser)
	}
}

// TestOwnUsersHalfMade: what an agent that was killed half made is made anew.
func TestOwnUsersHalfMade(t *testing.T) {
	w := newWorld(t)
	n := newNode(t, w.node, w.cfg)
	before := setup(t, n, Pod{UID: "a", Name: "a", OwnUsers: true})
	for _, cut := range []string{before.IPCNS, before.UserNS} {
		must(t, unix.Unmount(cut, unix.MNT_DETACH))
		after := setup(t, newNode(t, w.node, w.cfg), Pod{UID: "a", Name: "a", OwnUsers: true})
		if owner(t, after.NetNS) != inode(t, after.UserNS) || owner(t, after.IPCNS) != inode(t, after.UserNS) {
			t.Errorf("without %s the pod's namespaces are not of one make", filepath.Base(cut))
		}
	}
}

func TestUserRange(t *testing.T) {
	for _, c := range []struct {
		r    UserRange
		want string
	}{
		{UserRange{}, ""},
		{UserRange{First: 65536, Pods: 65535}, ""},
		{UserRange{First: 100000}, ""},
		{UserRange{First: 0, Pods: 3}, "network config: Users begins at 0, want 65536 or more"},
		{UserRange{First: 131072, Pods: 65535}, "network config: Users has 65535 parts, want at most 65534"},
	} {
		got := ""
		if err := c.r.validate(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestKubeletUsers(t *testing.T) {
	for name, c := range map[string]struct {
		subuid, subgid string
		want           UserRange
	}{
		"nothing":      {},
		"others only":  {"me:100000:65536\n", "me:100000:65536\n", UserRange{}},
		"its own":      {"me:100000:65536\nkubelet:200000:7208960\n", "kubelet:200000:7208960\n", UserRange{First: 200000, Pods: 110}},
		"too few":      {"kubelet:100000:1000\n", "kubelet:100000:1000\n", UserRange{First: 100000}},
		"not the same": {"kubelet:100000:65536\n", "", UserRange{First: UsersPerPod}},
		"the machine's": {
			"kubelet:0:655360\n", "kubelet:0:655360\n", UserRange{First: UsersPerPod},
		},
	} {
		got := KubeletUsers(c.subuid, c.subgid)
		if diff := cmp.Diff(c.want, got); diff != "" || got.validate() != nil {
			t.Errorf("%s: %s %v", name, diff, got.validate())
		}
	}
}

// runIn runs a command in a pod's user and UTS namespaces, and returns the words
// that it said.
func runIn(t *testing.T, box Sandbox, command ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--user=" + box.UserNS, "--uts=" + box.UTSNS}, command...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Ino
}

// owner is the inode of the user namespace that owns another namespace.
func owner(t *testing.T, path string) uint64 {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	users, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	must(t, err)
	defer unix.Close(users)
	var st unix.Stat_t
	must(t, unix.Fstat(users, &st))
	return st.Ino
}
