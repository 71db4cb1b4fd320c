// Package volume makes what a pod mounts: its volumes, and the files that are
// generated for it. The node agent calls it before it starts a pod's
// containers and after they are gone.
//
// It never decides what a pod needs, knows no registry (config maps and
// secrets are looked up through Refs), and touches nothing outside of its
// directory but the host paths that pods ask for.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Config says where pods' volumes are kept.
type Config struct {
	// Dir is the node's own directory for them, absolute, made when missing.
	Dir string
	// Logger is required.
	Logger *slog.Logger
}

// Manager makes and removes pods' volumes. Its methods are safe to call at
// once for different pods; calls for one pod must follow one another.
type Manager struct {
	dir string
	log *slog.Logger
}

// New returns a Manager for a directory.
func New(cfg Config) (*Manager, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("volume config: Dir %q is not absolute", cfg.Dir)
	}
	if cfg.Logger == nil {
		return nil, errors.New("volume config: Logger is nil")
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make volume directory: %w", err)
	}
	// Mounts are listed by the kernel with links resolved.
	dir, err := filepath.EvalSymlinks(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("make volume directory: %w", err)
	}
	return &Manager{dir: dir, log: cfg.Logger}, nil
}

// Prepare makes the pod's volumes and returns their host paths by volume
// name. Called again it makes what is missing and leaves the rest as it is. A
// config map, secret or key that is not there (and not optional) is a
// *MissingReferenceError; all volumes' errors are joined.
func (m *Manager) Prepare(ctx context.Context, pod *corev1.Pod, refs Refs) (map[string]string, error) {
	if _, err := m.podDir(string(pod.UID)); err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(pod.Spec.Volumes))
	var errs []error
	for i := range pod.Spec.Volumes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		volume := &pod.Spec.Volumes[i]
		path, err := m.prepare(ctx, pod, volume, refs)
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", volume.Name, err))
			continue
		}
		paths[volume.Name] = path
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return paths, nil
}

func (m *Manager) prepare(ctx context.Context, pod *corev1.Pod, volume *corev1.Volume, refs Refs) (string, error) {
	source := &volume.VolumeSource
	if source.HostPath != nil {
		return source.HostPath.Path, prepareHostPath(source.HostPath)
	}
	if l, ok, err := FindLasting(pod, volume, refs); ok {
		if err != nil {
			return "", err
		}
		return m.prepareLasting(ctx, pod, volume.Name, l)
	}
	dir := filepath.Join(m.dir, string(pod.UID), "volumes", volume.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	owner := fsGroup(pod)
	switch {
	case source.Image != nil: // whoever starts the containers mounts it there
		return dir, nil
	case source.EmptyDir != nil:
		return dir, prepareEmptyDir(dir, source.EmptyDir, owner, memoryLimit(pod))
	case isGenerated(source):
		if inMemory(source) {
			if err := mountTmpfs(dir, "mode=0755"); err != nil {
				return "", err
			}
		}
		content, err := renderer{pod, refs}.render(source)
		if err != nil {
			return "", err
		}
		_, err = publish(dir, content, owner)
		return dir, err
	}
	return "", errors.New("a volume of this kind is not supported here yet: use emptyDir, hostPath, configMap, secret, downwardAPI, projected, persistentVolumeClaim, ephemeral, image or nfs")
}

// Update writes what has changed of config maps, secrets, fields and tokens
// into the volumes of a pod that Prepare has made. Each volume changes at once and as a whole. One whose
// object has gone keeps what it has; its *MissingReferenceError is returned.
func (m *Manager) Update(pod *corev1.Pod, refs Refs) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if !isGenerated(&volume.VolumeSource) {
			continue
		}
		dir := filepath.Join(m.dir, string(pod.UID), "volumes", volume.Name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		content, err := renderer{pod, refs}.render(&volume.VolumeSource)
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", volume.Name, err))
			continue
		}
		changed, err := publish(dir, content, fsGroup(pod))
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", volume.Name, err))
		} else if changed {
			m.log.Info("volume updated", "pod", pod.Namespace+"/"+pod.Name, "volume", volume.Name)
		}
	}
	return errors.Join(errs...)
}

// Remove unmounts and deletes all that was made for a pod. It follows no link
// and enters no mount: if one cannot be unmounted, nothing is deleted. Nil if
// there is nothing.
func (m *Manager) Remove(podUID string) error {
	dir, err := m.podPath(podUID)
	if err != nil {
		return err
	}
	if err := m.Unmount(podUID); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove volumes of pod %s: %w", podUID, err)
	}
	return nil
}

// Unmount ends all mounts that were made for a pod. Nil if there is none.
func (m *Manager) Unmount(podUID string) error {
	dir, err := m.podPath(podUID)
	if err == nil {
		err = unmountBelow(dir)
	}
	if err != nil {
		return fmt.Errorf("unmount volumes of pod %s: %w", podUID, err)
	}
	return nil
}

// Mounted reports whether something is mounted on a volume's directory, which
// there is.
func (m *Manager) Mounted(podUID, volume string) (bool, error) {
	return isMountPoint(m.Dir(podUID, volume))
}

// List returns the UIDs of pods that have something on disk, in order.
func (m *Manager) List() ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("list pods with volumes: %w", err)
	}
	var uids []string
	for _, entry := range entries {
		if entry.IsDir() {
			uids = append(uids, entry.Name())
		}
	}
	return uids, nil
}

// podPath is a pod's directory, which need not exist.
func (m *Manager) podPath(podUID string) (string, error) {
	if podUID == "" || podUID == "." || podUID == ".." || strings.ContainsAny(podUID, "/\x00") {
		return "", fmt.Errorf("pod UID %q cannot name a directory", podUID)
	}
	return filepath.Join(m.dir, podUID), nil
}

// podDir makes a pod's directory.
func (m *Manager) podDir(podUID string) (string, error) {
	dir, err := m.podPath(podUID)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make directory of pod %s: %w", podUID, err)
	}
	return dir, nil
}

// memoryLimit is what all of a pod's containers may have together, or 0 where
// one has no limit.
func memoryLimit(pod *corev1.Pod) int64 {
	sum := int64(0)
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return 0
		}
		sum += limit
	}
	return sum
}

// fsGroup is the group that owns the pod's volumes, or -1.
func fsGroup(pod *corev1.Pod) int {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup)
	}
	return -1
}
