package volume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Lasting is a volume that is not the pod's own: it was there before the pod,
// and stays when it goes.
type Lasting struct {
	Claim    string // through which the pod has it, or ""
	ReadOnly bool
	Path     string // of the machine; "" for one that is on a server
	Local    bool   // a file system of the machine, and no path of it

	name  string // of the persistent volume
	share *nfsShare
	host  *corev1.HostPathVolumeSource
}

// Remote reports whether a volume is on a server.
func (l Lasting) Remote() bool { return l.share != nil }

// FindLasting looks up a volume that is not the pod's own. ok is false for
// others. An error wraps ErrMissingReference where something is yet to come.
func FindLasting(pod *corev1.Pod, volume *corev1.Volume, refs Objects) (l Lasting, ok bool, err error) {
	switch source := &volume.VolumeSource; {
	case source.NFS != nil:
		share := shareOf(source.NFS)
		return Lasting{share: &share, ReadOnly: share.readOnly}, true, nil
	case source.PersistentVolumeClaim != nil:
		claim, err := claimNamed(pod, source.PersistentVolumeClaim.ClaimName, refs)
		if err != nil {
			return Lasting{}, true, err
		}
		l, err = lasting(claim, source.PersistentVolumeClaim.ReadOnly, refs)
		return l, true, err
	case source.Ephemeral != nil:
		claim, err := claimNamed(pod, ephemeral.VolumeClaimName(pod, volume), refs)
		if err == nil {
			err = ephemeral.VolumeIsForPod(pod, claim)
		}
		if err != nil {
			return Lasting{}, true, err
		}
		l, err = lasting(claim, false, refs)
		return l, true, err
	}
	return Lasting{}, false, nil
}

func claimNamed(pod *corev1.Pod, name string, refs Objects) (*corev1.PersistentVolumeClaim, error) {
	claim, found := refs.Claim(pod.Namespace, name)
	if !found {
		return nil, &MissingReferenceError{Kind: "persistentVolumeClaim", Namespace: pod.Namespace, Name: name}
	}
	return claim, nil
}

// lasting is the persistent volume that a claim is bound to.
func lasting(claim *corev1.PersistentVolumeClaim, readOnly bool, refs Objects) (Lasting, error) {
	if claim.Spec.VolumeName == "" {
		return Lasting{}, fmt.Errorf("persistentVolumeClaim %s/%s is not bound to a volume: %w", claim.Namespace, claim.Name, ErrMissingReference)
	}
	volume, found := refs.Volume(claim.Spec.VolumeName)
	if !found {
		return Lasting{}, fmt.Errorf("persistentVolume %s of claim %s/%s: %w", claim.Spec.VolumeName, claim.Namespace, claim.Name, ErrMissingReference)
	}
	if mode := volume.Spec.VolumeMode; mode != nil && *mode == corev1.PersistentVolumeBlock {
		return Lasting{}, fmt.Errorf("persistentVolume %s is a block device, which is not supported here: use volumeMode Filesystem", volume.Name)
	}
	l := Lasting{Claim: claim.Name, ReadOnly: readOnly, name: volume.Name}
	switch spec := &volume.Spec; {
	case spec.NFS != nil:
		share := shareOf(spec.NFS)
		share.readOnly = share.readOnly || readOnly
		share.options = spec.MountOptions
		l.share, l.ReadOnly = &share, share.readOnly
		return l, nil
	case len(spec.MountOptions) > 0:
		return Lasting{}, fmt.Errorf("persistentVolume %s: mountOptions are for nfs alone: leave them out", volume.Name)
	case spec.HostPath != nil:
		l.Path, l.host = spec.HostPath.Path, spec.HostPath
		return l, nil
	case spec.Local != nil:
		l.Path, l.Local = spec.Local.Path, true
		return l, nil
	}
	return Lasting{}, fmt.Errorf("persistentVolume %s is of a kind that is not supported here: use local, hostPath or nfs", volume.Name)
}

// prepareLasting makes a volume that is not the pod's own ready for it.
func (m *Manager) prepareLasting(ctx context.Context, pod *corev1.Pod, name string, l Lasting) (string, error) {
	switch {
	case l.Remote():
		dir := m.Dir(string(pod.UID), name)
		return dir, mountNFS(ctx, dir, *l.share)
	case l.Local:
		return l.Path, prepareLocal(pod, l.name, l.Path, l.ReadOnly)
	}
	return l.Path, prepareHostPath(l.host)
}
