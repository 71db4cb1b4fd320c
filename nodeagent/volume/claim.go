package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

func prepareLocal(pod *corev1.Pod, name, path string, readOnly bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("persistentVolume %s: %s does not exist on this node: make the directory, or mount its file system there", name, path)
	case err != nil:
		return fmt.Errorf("persistentVolume %s: %w", name, err)
	case !info.IsDir():
		return fmt.Errorf("persistentVolume %s: %s is not a directory: mount its file system, and name where", name, path)
	}
	group := fsGroup(pod)
	if group < 0 || readOnly {
		return nil
	}
	if onMismatch(pod) && ownedBy(info, group) {
		return nil
	}
	if err := giveTo(path, group); err != nil {
		return fmt.Errorf("persistentVolume %s: give to group %d: %w", name, group, err)
	}
	return nil
}

func onMismatch(pod *corev1.Pod) bool {
	policy := pod.Spec.SecurityContext.FSGroupChangePolicy
	return policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch
}

// ownedBy reports whether a directory looks as giveTo leaves it, which does the
// root last.
func ownedBy(info fs.FileInfo, group int) bool {
	const want = 0o770
	return groupOf(info) == group && info.Mode()&fs.ModeSetgid != 0 && info.Mode().Perm()&want == want
}

// giveTo lets a group read and write all that is below a directory, and own
// what is made there (Kubernetes: fsGroup). Links are not followed.
func giveTo(dir string, group int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var dirs []string
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			dirs = append(dirs, path)
			return nil
		}
		return giveOne(root, path, group, entry.Type(), 0o660)
	})
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = giveOne(root, dirs[i], group, fs.ModeDir, 0o770|fs.ModeSetgid)
	}
	return err
}

func giveOne(root *os.Root, path string, group int, kind, mode fs.FileMode) error {
	if err := root.Lchown(path, -1, group); err != nil {
		return err
	}
	if kind&fs.ModeSymlink != 0 {
		return nil
	}
	info, err := root.Lstat(path)
	if err != nil {
		return err
	}
	return root.Chmod(filepath.Clean(path), info.Mode()|mode)
}

func groupOf(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(stat.Gid)
}
