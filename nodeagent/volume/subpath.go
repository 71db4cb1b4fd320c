package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// SubPath returns a host path that is the part of a volume which a container
// mounts. A part that is not there is made, as a directory. No link leads out
// of the volume, not even one that a container changes at this moment: the
// part is pinned by a bind mount, which Remove takes away. Call it at each
// start of a container.
func (m *Manager) SubPath(podUID, container, volumePath, subPath string) (string, error) {
	dir, err := m.podDir(podUID)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(subPath) || subPath == "" {
		return "", fmt.Errorf("subPath %q: must be a relative path", subPath)
	}
	fd, err := openInside(volumePath, filepath.Clean(subPath))
	if errors.Is(err, unix.EROFS) {
		return "", fmt.Errorf("subPath %q: there is no such path in the volume, which is read-only", subPath)
	}
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", subPath, err)
	}
	defer unix.Close(fd)
	sum := sha256.Sum256([]byte(container + "\x00" + volumePath + "\x00" + subPath))
	target := filepath.Join(dir, "subpaths", hex.EncodeToString(sum[:8]))
	if err := pin(fd, target); err != nil {
		return "", fmt.Errorf("subPath %q: %w", subPath, err)
	}
	return target, nil
}

// openInside opens what is below a root, making directories where nothing is.
func openInside(root, sub string) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open volume: %w", err)
	}
	defer unix.Close(base)
	fd, err := beneath(base, sub)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := makeInside(base, sub); err != nil {
		return -1, err
	}
	return beneath(base, sub)
}

// makeInside makes the missing directories of a path, with the mode and group
// of the volume itself.
func makeInside(base int, sub string) error {
	var root unix.Stat_t
	if err := unix.Fstat(base, &root); err != nil {
		return fmt.Errorf("look at volume: %w", err)
	}
	parts := strings.Split(sub, "/")
	for i := range parts {
		parent, err := beneath(base, filepath.Join(append([]string{"."}, parts[:i]...)...))
		if err != nil {
			return err
		}
		err = unix.Mkdirat(parent, parts[i], 0o700)
		if err == nil {
			err = likeVolume(parent, parts[i], root)
		} else if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		_ = unix.Close(parent)
		if err != nil {
			return fmt.Errorf("make directory %s: %w", parts[i], err)
		}
	}
	return nil
}

func likeVolume(parent int, name string, root unix.Stat_t) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(root.Uid), int(root.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, root.Mode&0o7777)
}

func beneath(base int, sub string) (int, error) {
	fd, err := unix.Openat2(base, sub, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.EXDEV) {
		return -1, fmt.Errorf("leads out of its volume: %w", err)
	}
	return fd, err
}

// pin binds an open file or directory to a path of ours. The mount is
// private, so that its end ends nothing elsewhere.
func pin(fd int, target string) error {
	if err := unmountBelow(target); err != nil {
		return err
	}
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := makeTarget(fd, target); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("pin: %w", err), unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

func makeTarget(fd int, target string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.Mkdir(target, 0o755)
	}
	return os.WriteFile(target, nil, fs.FileMode(0o644))
}
