package nodeagent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// subPathFunc finds a part of a volume for a container (volume.Manager's
// SubPath, for one pod).
type subPathFunc func(container, volumePath, subPath string) (string, error)

// mountsFor is what is mounted in a container: the pod's files and the
// container's volumes. env is what subPathExpr stands for.
func mountsFor(pod *corev1.Pod, c *corev1.Container, p prepared, env map[string]string, subPath subPathFunc) ([]runtime.Mount, error) {
	mounts := slices.Clone(p.files)
	for _, vm := range c.VolumeMounts {
		source, ok := p.volumes[vm.Name]
		if !ok {
			return nil, fmt.Errorf("volume %s of container %s is not there: %w", vm.Name, c.Name, errConfig)
		}
		part, err := partOf(vm, env)
		if err != nil {
			return nil, err
		}
		if part != "" {
			if source, err = subPath(c.Name, source, part); err != nil {
				return nil, fmt.Errorf("subPath of volume %s: %w", vm.Name, err)
			}
		}
		isImage := imageVolume(pod, vm.Name) != nil
		m := runtime.Mount{
			Source: source, Destination: filepath.Clean("/" + vm.MountPath), Propagation: propagationOf(vm),
			ReadOnly: vm.ReadOnly || onlyRead(pod, vm.Name), NoExec: isImage, Mapped: isImage && hasOwnUsers(pod),
		}
		if m.RecursiveReadOnly = recursiveReadOnly(vm); m.RecursiveReadOnly && !canReadOnlyBelow() {
			return nil, fmt.Errorf("recursiveReadOnly of volume %s: this machine's kernel is older than 5.12: %w", vm.Name, errConfig)
		}
		mounts = slices.DeleteFunc(mounts, func(other runtime.Mount) bool { return other.Destination == m.Destination })
		mounts = append(mounts, m)
	}
	// A mount inside another comes after it.
	slices.SortStableFunc(mounts, func(a, b runtime.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return mounts, nil
}

// partOf is what is mounted of a volume; "" is all of it.
func partOf(vm corev1.VolumeMount, env map[string]string) (string, error) {
	if vm.SubPathExpr == "" {
		return vm.SubPath, nil
	}
	unknown := ""
	part := Expand(vm.SubPathExpr, func(name string) (string, bool) {
		value, ok := env[name]
		if !ok {
			unknown = name
		}
		return value, ok
	})
	if unknown != "" {
		return "", fmt.Errorf("subPathExpr %q of volume %s: the container has no variable %s: %w", vm.SubPathExpr, vm.Name, unknown, errConfig)
	}
	return part, nil
}

// onlyRead reports whether containers may only read a volume: its content is
// written by the agent, or is an image's, or the pod says so.
func onlyRead(pod *corev1.Pod, volume string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		if v.Name != volume {
			return false
		}
		generated := v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
		return generated || v.Image != nil || v.NFS != nil && v.NFS.ReadOnly || v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
	})
}

func propagationOf(vm corev1.VolumeMount) runtime.Propagation {
	if vm.MountPropagation == nil {
		return runtime.Private
	}
	switch *vm.MountPropagation {
	case corev1.MountPropagationHostToContainer:
		return runtime.FromMachine
	case corev1.MountPropagationBidirectional:
		return runtime.BothWays
	}
	return runtime.Private
}

// recursiveReadOnly reports whether all mounts below a volume's are to be
// read-only too: always if it must be, and if it may be where that is possible.
func recursiveReadOnly(vm corev1.VolumeMount) bool {
	if !vm.ReadOnly || vm.RecursiveReadOnly == nil {
		return false
	}
	switch *vm.RecursiveReadOnly {
	case corev1.RecursiveReadOnlyEnabled:
		return true
	case corev1.RecursiveReadOnlyIfPossible:
		return canReadOnlyBelow()
	}
	return false
}

// canReadOnlyBelow reports whether the kernel can make a whole tree of mounts
// read-only, which it can from 5.12 on.
var canReadOnlyBelow = sync.OnceValue(func() bool {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return false
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 12
})
