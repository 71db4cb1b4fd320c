package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// UsersPerPod is how many user IDs, and as many group IDs, a pod with a user
	// namespace of its own has: 0 to 65535 (Kubernetes: idsPerPod).
	UsersPerPod = 1 << 16
	// usersPin begins the name of a pinned user namespace; the machine's ID that
	// is 0 in it ends it. So what is pinned is all that there is to know, and a
	// reboot forgets it together with the namespace.
	usersPin = "user-"
)

// UserRange is a part of the machine's user and group IDs.
type UserRange struct {
	// First is at least UsersPerPod, so that the machine's own users are none of
	// a pod. Default: UsersPerPod, with as many Pods as there is room for up to
	// the highest ID.
	First uint32
	// Pods is how many pods have a part of the range.
	Pods int
}

func (r UserRange) validate() error {
	most := int((1<<32 - int64(r.First)) / UsersPerPod)
	switch {
	case r.First == 0 && r.Pods == 0:
	case r.First < UsersPerPod:
		return fmt.Errorf("network config: Users begins at %d, want %d or more", r.First, UsersPerPod)
	case r.Pods < 0 || r.Pods > most:
		return fmt.Errorf("network config: Users has %d parts, want at most %d", r.Pods, most)
	}
	return nil
}

// KubeletUsers is the range that a machine's /etc/subuid and /etc/subgid give
// the user "kubelet", for pods (Kubernetes: "User Namespaces"); the default if
// they give it none, and one for no pod if they differ.
func KubeletUsers(subuid, subgid string) UserRange {
	users, groups := subordinates(subuid), subordinates(subgid)
	switch {
	case users == UserRange{} && groups == UserRange{}:
		return UserRange{}
	case users != groups:
		return UserRange{First: UsersPerPod}
	}
	return users
}

// subordinates reads NAME:FIRST:COUNT lines.
func subordinates(text string) UserRange {
	for line := range strings.Lines(text) {
		field := strings.Split(strings.TrimSpace(line), ":")
		if len(field) != 3 || field[0] != "kubelet" {
			continue
		}
		first, err1 := strconv.ParseUint(field[1], 10, 32)
		count, err2 := strconv.ParseUint(field[2], 10, 32)
		if err1 != nil || err2 != nil || first < UsersPerPod || first+count > 1<<32 {
			return UserRange{First: UsersPerPod}
		}
		return UserRange{First: uint32(first), Pods: int(count / UsersPerPod)}
	}
	return UserRange{}
}

// maxUserParts is how often UsersPerPod goes into all IDs.
const maxUserParts = 1 << 32 / UsersPerPod

// userPool knows which pod has which part of a range. A pod that is known
// keeps its part, also one outside of the range. Not safe for use at once.
type userPool struct {
	within UserRange
	of     map[string]uint32 // by pod UID: the first ID
}

func newUserPool(within UserRange) *userPool {
	if within == (UserRange{}) {
		within = UserRange{First: UsersPerPod, Pods: maxUserParts - 1}
	}
	return &userPool{within: within, of: map[string]uint32{}}
}

func (p *userPool) reserve(uid string, first uint32) { p.of[uid] = first }

func (p *userPool) release(uid string) { delete(p.of, uid) }

// acquire returns the lowest free part for a pod, or the one that it has.
func (p *userPool) acquire(uid string) (first uint32, err error) {
	if first, ok := p.of[uid]; ok {
		return first, nil
	}
	taken := make(map[uint32]bool, len(p.of))
	for _, first := range p.of {
		taken[first] = true
	}
	for i := range p.within.Pods {
		if first := p.within.First + uint32(i)*UsersPerPod; !taken[first] {
			p.of[uid] = first
			return first, nil
		}
	}
	return 0, fmt.Errorf("all %d ranges of user IDs are taken: /etc/subuid and /etc/subgid say how many the machine has for pods, in a line for kubelet", p.within.Pods)
}

// usersOf finds the user namespace that is pinned in a pod's directory; an
// empty path is none.
func usersOf(dir string) (path string, first uint32) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", 0
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), usersPin)
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(number, 10, 32)
		if path := filepath.Join(dir, e.Name()); err == nil && isPinned(path) {
			return path, uint32(id)
		}
	}
	return "", 0
}

// pinWithUsers makes and pins a user namespace, and the others within it.
func (n *Network) pinWithUsers(uid, dir, hostname string) error {
	n.mu.Lock()
	first, err := n.users.acquire(uid)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return onThread(func() error {
		return withUsers(first, func(pid int) error {
			if err := nameHost(processNamespace(pid, "uts"), hostname); err != nil {
				return err
			}
			for _, pin := range [][2]string{{"user", usersPin + strconv.FormatUint(uint64(first), 10)}, {"net", "net"}, {"uts", "uts"}, {"ipc", "ipc"}} {
				if err := bindNamespace(processNamespace(pid, pin[0]), filepath.Join(dir, pin[1])); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func processNamespace(pid int, name string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, name) }

// withUsers calls f with a process that is in namespaces of its own, in whose
// user namespace the machine's ID first is 0. The process is stopped before it
// runs anything, and ends with f, or with us. The caller's thread is to be
// locked and thrown away: the process is bound to it.
func withUsers(first uint32, f func(pid int) error) (err error) {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(first), Size: UsersPerPod}}
	p, err := os.StartProcess("/proc/self/exe", []string{"evenkeel-namespaces"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return fmt.Errorf("make a user namespace: %w", usersHint(err))
	}
	defer func() {
		kill := p.Kill()
		if kill == nil {
			_, kill = p.Wait()
		}
		err = errors.Join(err, kill)
	}()
	return f(p.Pid)
}

// usersHint says what to do where the machine allows no user namespace.
func usersHint(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Errorf("the machine allows no more of them: raise the sysctl user.max_user_namespaces, or leave out hostUsers: false: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		return fmt.Errorf("the machine's kernel has none, or allows none (as with the sysctl kernel.yama.ptrace_scope=3): leave out hostUsers: false: %w", err)
	}
	return err
}

// nameHost sets the hostname of a UTS namespace, which it leaves the calling
// thread in.
func nameHost(path, hostname string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", hostname, err)
	}
	return nil
}
