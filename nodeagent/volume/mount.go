package volume

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a tmpfs unless something is mounted there already.
func mountTmpfs(dir, options string) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// isMountPoint asks the kernel of one directory: its list of all mounts is long
// on a machine with many pods. Linux before 5.8 has nothing but the list.
func isMountPoint(dir string) (bool, error) {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &stat)
	if err == nil && stat.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	points, err := mountPoints(dir)
	return slices.ContainsFunc(points, func(p mountPoint) bool { return p.path == dir }), err
}

// unmountBelow detaches every mount at or below a directory, and is sure that
// none is left.
func unmountBelow(dir string) error {
	points, err := mountPoints(dir)
	if err != nil {
		return err
	}
	for _, point := range slices.Backward(points) {
		if err := point.unmount(); err != nil {
			return fmt.Errorf("unmount %s: %w", point.path, err)
		}
	}
	if len(points) == 0 {
		return nil
	}
	left, err := mountPoints(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d mounts are left, the first at %s", len(left), left[0].path)
	}
	return err
}

// mountPoint is a mount as the kernel lists it.
type mountPoint struct{ path, kind string }

func (p mountPoint) unmount() error {
	if strings.HasPrefix(p.kind, "nfs") {
		return unmountNFS(p.path, nfsUnmountTime)
	}
	err := unix.Unmount(p.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// mountPoints lists the mounts at or below a directory, earlier ones first.
func mountPoints(dir string) ([]mountPoint, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var points []mountPoint
	for line := range strings.Lines(string(data)) {
		here, kind, found := strings.Cut(line, " - ")
		fields := strings.Fields(here)
		if !found || len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); point == dir || strings.HasPrefix(point, dir+"/") {
			kind, _, _ = strings.Cut(kind, " ")
			points = append(points, mountPoint{point, kind})
		}
	}
	return points, nil
}

// unescape undoes what the kernel does to a path in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
