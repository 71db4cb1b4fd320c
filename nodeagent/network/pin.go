package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// nsfsMagic is the type statfs reports for a namespace file.
const nsfsMagic = 0x6e736673

func (n *Network) pinDir() string           { return filepath.Join(n.cfg.RunDir, "ns") }
func (n *Network) podDir(uid string) string { return filepath.Join(n.pinDir(), uid) }

// preparePinDir makes the directory of pinned namespaces a private mount of its
// own: what is mounted below never propagates into containers.
func (n *Network) preparePinDir() error {
	dir := n.pinDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	err := unix.Mount("", dir, "", unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
		err = unix.Mount("", dir, "", unix.MS_PRIVATE, "")
	}
	if err != nil {
		return fmt.Errorf("make %s private: %w", dir, err)
	}
	return nil
}

// pinned lists the UIDs that have a directory of namespaces, whole or not.
func (n *Network) pinned() ([]string, error) {
	entries, err := os.ReadDir(n.pinDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", n.pinDir(), err)
	}
	var uids []string
	for _, e := range entries {
		if e.IsDir() {
			uids = append(uids, e.Name())
		}
	}
	return uids, nil
}

// sandbox names the namespaces that are pinned for uid, but for that of its
// users.
func (n *Network) sandbox(uid string) Sandbox {
	box := Sandbox{UID: uid}
	for name, field := range map[string]*string{"net": &box.NetNS, "ipc": &box.IPCNS, "uts": &box.UTSNS} {
		if path := filepath.Join(n.podDir(uid), name); isPinned(path) {
			*field = path
		}
	}
	return box
}

// whole tells whether everything the pod needs is pinned.
func (s Sandbox) whole(hostNetwork bool) bool {
	return s.IPCNS != "" && (hostNetwork || s.NetNS != "" && s.UTSNS != "")
}

func isPinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == nsfsMagic
}

// pin makes the pod's namespaces unless they are there, and returns them. The
// IPC namespace is pinned last, so a sandbox with one is whole.
func (n *Network) pin(pod Pod) (Sandbox, error) {
	uid := pod.UID
	box := n.sandboxOf(pod)
	if box.whole(pod.HostNetwork) && (!pod.OwnUsers || box.UserNS != "") {
		return box, nil
	}
	// An interface pair that outlived its pins leads to a namespace nobody can
	// enter any more.
	if err := n.deleteLink(n.vethName(uid)); err != nil {
		return Sandbox{}, err
	}
	if err := n.unpin(uid); err != nil {
		return Sandbox{}, err
	}
	dir := n.podDir(uid)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Sandbox{}, fmt.Errorf("make %s: %w", dir, err)
	}
	hostname := pod.Hostname
	if hostname == "" {
		hostname = pod.Name
	}
	var err error
	if pod.OwnUsers {
		err = n.pinWithUsers(uid, dir, hostname)
	} else {
		err = onThread(func() error { return pinThread(dir, hostname, pod.HostNetwork) })
	}
	if err != nil {
		return Sandbox{}, err
	}
	return n.sandboxOf(pod), nil
}

// sandboxOf is sandbox with the users, which are only looked for where the pod
// has its own.
func (n *Network) sandboxOf(pod Pod) Sandbox {
	box := n.sandbox(pod.UID)
	if pod.OwnUsers {
		box.UserNS, box.FirstUser = usersOf(n.podDir(pod.UID))
	}
	return box
}

func pinThread(dir, hostname string, hostNetwork bool) error {
	flags, names := unix.CLONE_NEWIPC, []string{"ipc"}
	if !hostNetwork {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
		names = []string{"net", "uts", "ipc"}
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("unshare namespaces: %w", err)
	}
	if !hostNetwork {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", hostname, err)
		}
	}
	for _, name := range names {
		src := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), name)
		if err := bindNamespace(src, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func bindNamespace(src, dst string) error {
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make %s: %w", dst, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make %s: %w", dst, err)
	}
	if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin namespace at %s: %w", dst, err)
	}
	return nil
}

// unpin lets go of the pod's namespaces. Removing the files also detaches
// copies of the mounts in mount namespaces that were forked meanwhile.
func (n *Network) unpin(uid string) error {
	dir := n.podDir(uid)
	pins, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, pin := range pins { // "ipc" is the first
		path := filepath.Join(dir, pin.Name())
		if err := unmountAll(path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// unmountAll takes away every mount stacked on path.
func unmountAll(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
