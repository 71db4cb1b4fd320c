package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// prepareEmptyDir opens a directory to every user, on disk or in memory.
// One in memory is never larger than what the pod may have.
func prepareEmptyDir(dir string, source *corev1.EmptyDirVolumeSource, group int, podLimit int64) error {
	switch source.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		options := "mode=0777"
		size := podLimit
		if limit := source.SizeLimit; limit != nil && limit.Value() > 0 && (size == 0 || limit.Value() < size) {
			size = limit.Value()
		}
		if size > 0 {
			options += fmt.Sprintf(",size=%d", size)
		}
		if err := mountTmpfs(dir, options); err != nil {
			return err
		}
	default:
		return fmt.Errorf("medium %q is not supported here yet: leave it out, or use Memory", source.Medium)
	}
	mode := fs.FileMode(0o777)
	if group >= 0 {
		if err := os.Chown(dir, -1, group); err != nil {
			return fmt.Errorf("give to group %d: %w", group, err)
		}
		mode |= fs.ModeSetgid
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("open to all users: %w", err)
	}
	return nil
}

// prepareHostPath checks, and where the type says so makes, what is mounted
// from the machine.
func prepareHostPath(source *corev1.HostPathVolumeSource) error {
	if !filepath.IsAbs(source.Path) {
		return fmt.Errorf("hostPath %q is not absolute", source.Path)
	}
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	info, err := os.Stat(source.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeHostPath(source.Path, kind)
	}
	if err != nil {
		return fmt.Errorf("hostPath: %w", err)
	}
	return checkHostPath(source.Path, kind, info.Mode())
}

func makeHostPath(path string, kind corev1.HostPathType) error {
	var err error
	switch kind {
	case corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate:
		err = os.MkdirAll(path, 0o755)
	case corev1.HostPathFileOrCreate:
		var file *os.File
		if file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err == nil {
			err = file.Close()
		}
	case corev1.HostPathDirectory:
		err = fmt.Errorf("%s does not exist: make the directory on this node, or use type DirectoryOrCreate", path)
	case corev1.HostPathFile:
		err = fmt.Errorf("%s does not exist: make the file on this node, or use type FileOrCreate", path)
	default:
		err = fmt.Errorf("%s does not exist on this node, and type is %s", path, kind)
	}
	if err != nil {
		return fmt.Errorf("hostPath: %w", err)
	}
	return nil
}

// checkHostPath compares what is there with what the type says. Pure.
func checkHostPath(path string, kind corev1.HostPathType, mode fs.FileMode) error {
	device := mode&fs.ModeDevice != 0
	character := mode&fs.ModeCharDevice != 0
	is, want := true, ""
	switch kind {
	case corev1.HostPathUnset:
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		is, want = mode.IsDir(), "directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		is, want = mode.IsRegular(), "file"
	case corev1.HostPathSocket:
		is, want = mode&fs.ModeSocket != 0, "socket"
	case corev1.HostPathCharDev:
		is, want = device && character, "character device"
	case corev1.HostPathBlockDev:
		is, want = device && !character, "block device"
	default:
		return fmt.Errorf("hostPath: type %q is unknown", kind)
	}
	if !is {
		return fmt.Errorf("hostPath: %s is not a %s: change path or type (%s)", path, want, kind)
	}
	return nil
}
