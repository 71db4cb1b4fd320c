package nodeagent

import (
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
)

func selinuxOf(options *corev1.SELinuxOptions) *runtime.SELinux {
	if options == nil {
		return nil
	}
	return &runtime.SELinux{User: options.User, Role: options.Role, Type: options.Type, Level: options.Level}
}

// keepLabels spares what a container mounts that is not its pod's own to
// label: paths of the machine, images, shares, and volumes that are only read
// (Kubernetes: Managed and SELinuxRelabel of its volume plugins). With
// seLinuxChangePolicy MountOption it is the same: no volume that there is here
// is mounted with a label.
func keepLabels(pod *corev1.Pod, c *corev1.Container, mounts []runtime.Mount, refs volume.Objects) {
	for _, vm := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == vm.Name })
		if i < 0 || ownContent(pod, &pod.Spec.Volumes[i], refs) {
			continue
		}
		for m := range mounts {
			if mounts[m].Destination == filepath.Clean("/"+vm.MountPath) {
				mounts[m].KeepLabel = true
			}
		}
	}
}

// ownContent reports whether a volume may be labelled for its pod.
func ownContent(pod *corev1.Pod, v *corev1.Volume, refs volume.Objects) bool {
	name, readOnly := "", false
	switch {
	case v.PersistentVolumeClaim != nil:
		name, readOnly = v.PersistentVolumeClaim.ClaimName, v.PersistentVolumeClaim.ReadOnly
	case v.Ephemeral != nil:
		name = pod.Name + "-" + v.Name
	default:
		return v.HostPath == nil && v.Image == nil && v.NFS == nil
	}
	claim, found := refs.Claim(pod.Namespace, name)
	if !found || readOnly {
		return false
	}
	bound, found := refs.Volume(claim.Spec.VolumeName)
	return found && bound.Spec.Local != nil
}
