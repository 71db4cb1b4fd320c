package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// A container in a user namespace of its pod sees what is mounted from the
// machine, and the layers of its image, with the IDs that they have on disk:
// through mounts that map them (mount_setattr(2), MOUNT_ATTR_IDMAP). Such
// mounts are made beside, for the OCI runtime and the overlay to be made from,
// and taken away when the container has started.

func (r *Runtime) mappedDir() string { return filepath.Join(r.cfg.StateDir, "mapped") }

// mappedSource is where a container's n-th mount is made for it.
func mappedSource(dir, id string, n int) string { return filepath.Join(dir, id, "m"+strconv.Itoa(n)) }

// inUsers puts a container into the user namespace of its pod. Pure.
func inUsers(spec *specs.Spec, n rt.Namespaces) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: n.FirstUser, Size: n.Users}}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: n.User})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
}

// withinUsers: a container runs as one of the users that its pod has. Pure.
func withinUsers(who runAs, users uint32) error {
	for _, id := range append([]uint32{who.uid, who.gid}, who.groups...) {
		if id >= users {
			return fmt.Errorf("%w: it would run as user or group %d, but with hostUsers: false a pod has 0 to %d", rt.ErrConfig, id, users-1)
		}
	}
	return nil
}

// shown is a container as its spec has it.
func (r *Runtime) shown(c rt.Container) rt.Container {
	if c.Namespaces.User != "" {
		c.Mounts = mapSources(c.Mounts, r.mappedDir(), c.ID)
	}
	return c
}

// mapSources has the mounts of a container in a user namespace taken from
// where mapMounts makes them. They are read-only there already: in its own
// namespace a container could not make one so that has other locked flags.
// Pure.
func mapSources(mounts []rt.Mount, dir, id string) []rt.Mount {
	out := slices.Clone(mounts)
	for i := range out {
		out[i] = rt.Mount{Source: mappedSource(dir, id, i), Destination: out[i].Destination, Propagation: out[i].Propagation}
	}
	return out
}

// mapMounts makes all that mapSources told of, and returns the mounts of the
// root file system with the container's IDs. dropMapped is to follow, also
// after an error.
func (r *Runtime) mapMounts(c rt.Container, root []mount.Mount) ([]mount.Mount, error) {
	if err := reachable(r.cfg.DaemonState); err != nil {
		return nil, err
	}
	dir, users, err := r.prepareMapped(c.ID, c.Namespaces.User)
	if err != nil {
		return nil, err
	}
	defer unix.Close(users)
	for i, m := range c.Mounts {
		if err := mapMount(m, mappedSource(r.mappedDir(), c.ID, i), users); err != nil {
			return nil, fmt.Errorf("mount %s for %s: %w", m.Source, c.ID, err)
		}
	}
	return mapRoot(root, dir, users, c.Namespaces.FirstUser)
}

// mapView is mapRoot for an image that is only looked into. dropMapped is to
// follow, also after an error.
func (r *Runtime) mapView(id string, view []mount.Mount, user string) ([]mount.Mount, error) {
	dir, users, err := r.prepareMapped(id, user)
	if err != nil {
		return nil, err
	}
	defer unix.Close(users)
	return mapRoot(view, dir, users, 0)
}

// prepareMapped makes an empty place for mounts, and opens a user namespace,
// which the caller closes. That the ID is starting must be known before.
func (r *Runtime) prepareMapped(id, user string) (dir string, users int, err error) {
	if dir, err = r.placeMapped(id); err != nil {
		return "", -1, err
	}
	users, err = unix.Open(user, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", -1, fmt.Errorf("open the user namespace of %s: %w", id, err)
	}
	return dir, users, nil
}

func (r *Runtime) placeMapped(id string) (dir string, err error) {
	r.mapping.Lock()
	defer r.mapping.Unlock()
	if err := preparePrivate(r.mappedDir()); err != nil {
		return "", err
	}
	if err := r.dropMapped(id); err != nil { // what an earlier process left
		return "", err
	}
	dir = filepath.Join(r.mappedDir(), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make mounts of %s: %w", id, err)
	}
	return dir, nil
}

// reachable: a container's root file system is below containerd's state
// directory, and is entered by who is no longer root there.
func reachable(dir string) error {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at containerd's state directory: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%w: with hostUsers: false a pod's root file systems are reached as another user than root, which %s does not allow: chmod o+x it", rt.ErrConfig, dir)
		}
	}
	return nil
}

// preparePrivate makes a directory that is a private mount: what is mounted
// below never propagates into containers.
func preparePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
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

// mapMount makes a mount of a container at target. Only the mount itself is
// mapped, as OCI runtimes do it, not what else is mounted below.
func mapMount(m rt.Mount, target string, users int) error {
	below := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if m.Propagation != rt.Private {
		below.Propagation = unix.MS_SLAVE // what a container mounts never leaves its user namespace
	}
	top := unix.MountAttr{}
	if !m.Mapped {
		top = unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)}
	}
	if m.NoExec {
		top.Attr_set |= unix.MOUNT_ATTR_NOEXEC
	}
	switch {
	case m.RecursiveReadOnly:
		below.Attr_set = unix.MOUNT_ATTR_RDONLY
	case m.ReadOnly:
		top.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	return mountMapped(m.Source, target, below, top)
}

// mountMapped mounts what is at source at target too, with all below it.
func mountMapped(source, target string, below, top unix.MountAttr) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	defer unix.Close(tree)
	// Before anything is unmounted: what is shared would be unmounted in both places.
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &below); err != nil {
		return fmt.Errorf("%w: set attributes, which Linux can from 5.12 on: %w", rt.ErrConfig, err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &top); err != nil {
		return fmt.Errorf("%w: its file system cannot be mounted with the user IDs of a pod (hostUsers: false): %w", rt.ErrConfig, err)
	}
	if err := makeLike(tree, target); err != nil {
		return fmt.Errorf("make %s: %w", target, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// makeLike makes what an open file or directory can be mounted on.
func makeLike(fd int, target string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.Mkdir(target, 0o700)
	}
	place, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return place.Close()
}

// mapRoot maps a container's root file system. Of an overlay the image's
// layers are mapped; what the container writes has the machine's IDs, and goes
// with it.
func mapRoot(root []mount.Mount, dir string, users int, first uint32) ([]mount.Mount, error) {
	out := slices.Clone(root)
	for i, m := range out {
		var err error
		switch m.Type {
		case "overlay":
			out[i].Options, err = mapOverlay(m.Options, dir, users, first)
		case "bind":
			out[i].Source = filepath.Join(dir, "root"+strconv.Itoa(i))
			err = mapMount(rt.Mount{Source: m.Source}, out[i].Source, users)
		default:
			err = fmt.Errorf("%w: containerd's snapshotter makes it as %s, which cannot be mapped", rt.ErrConfig, m.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("root file system with the user IDs of a pod: %w", err)
		}
	}
	return out, nil
}

func mapOverlay(options []string, dir string, users int, first uint32) ([]string, error) {
	out := slices.Clone(options)
	for i, option := range options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir":
			layers := strings.Split(value, ":")
			for n, layer := range layers {
				layers[n] = filepath.Join(dir, strconv.Itoa(n))
				if err := mapMount(rt.Mount{Source: layer}, layers[n], users); err != nil {
					return nil, fmt.Errorf("layer %s: %w", layer, err)
				}
			}
			out[i] = "lowerdir=" + strings.Join(layers, ":")
		case "upperdir":
			if err := moveOwner(value, first); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// moveOwner gives the root of what a container writes, which is empty, to its
// own users.
func moveOwner(dir string, first uint32) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid >= first {
		return nil
	}
	return os.Lchown(dir, int(stat.Uid+first), int(stat.Gid+first))
}

// dropMapped takes away what mapMounts made for a container. Nothing is deleted
// but empty places to mount on.
func (r *Runtime) dropMapped(id string) error {
	dir := filepath.Join(r.mappedDir(), id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list mounts of %s: %w", id, err)
	}
	for _, e := range entries {
		if err := removeMount(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("take away mounts of %s: %w", id, err)
		}
	}
	return removeMount(dir)
}

// removeMount takes away all that is mounted at a path, and the place itself.
func removeMount(path string) error {
	var err error
	for err == nil {
		err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweepMapped takes away what is left of starts that an earlier process did
// not bring to an end.
func (r *Runtime) sweepMapped() error {
	entries, err := os.ReadDir(r.mappedDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list mapped mounts: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, r.sweepOne(e.Name()))
	}
	return errors.Join(errs...)
}

// sweepOne is done before a start of that ID makes its place, or not at all.
func (r *Runtime) sweepOne(id string) error {
	r.mapping.Lock()
	defer r.mapping.Unlock()
	if r.isStarting(id) {
		return nil
	}
	return r.dropMapped(id)
}

// starts notes that mounts of that ID are being made, until the returned
// function is called.
func (r *Runtime) starts(id string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting[id] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.starting, id)
	}
}

func (r *Runtime) isStarting(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starting[id]
}

// removeMapped is for a node that is removed.
func (r *Runtime) removeMapped() error {
	if err := r.sweepMapped(); err != nil {
		return err
	}
	return removeMount(r.mappedDir())
}
