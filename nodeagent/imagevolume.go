package nodeagent

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// A volume that is an image is pulled, by its own policy and with the pod's
// credentials, when the first container that mounts it starts. What it was
// then it is for the pod's whole life (Kubernetes: volumes[].image).

// imageVolume is the image that a pod's volume of a name is, or nil.
func imageVolume(pod *corev1.Pod, name string) *corev1.ImageVolumeSource {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return pod.Spec.Volumes[i].Image
		}
	}
	return nil
}

// mountImages mounts the images that are volumes of a container.
func (w *worker) mountImages(ctx context.Context, c *corev1.Container) (ready bool, err error) {
	for i := range c.VolumeMounts {
		name := c.VolumeMounts[i].Name
		source := imageVolume(w.pod, name)
		if source == nil {
			continue
		}
		mounted, err := w.agent.cfg.Volumes.Mounted(w.uid, name)
		if err != nil {
			return false, w.fail(ctx, c.Name, reasonConfig, err)
		}
		if mounted {
			continue
		}
		image, ready, err := w.image(ctx, need{c.Name, source.Reference, source.PullPolicy})
		if err != nil || !ready {
			return false, err
		}
		err = w.agent.cfg.Runtime.MountImage(ctx, runtime.ImageMount{
			PodUID: w.uid, Volume: name, Image: image.Ref, Target: w.agent.cfg.Volumes.Dir(w.uid, name), User: w.prepared.sandbox.UserNS,
		})
		if err != nil {
			return false, w.fail(ctx, c.Name, reasonConfig, fmt.Errorf("volume %s: %w", name, err))
		}
	}
	return true, nil
}

// letGo unmounts what others could do without the pod's holding it: images,
// and what is on a server. Of a pod that is only found on the machine it is not
// known whether there is any.
func (w *worker) letGo(ctx context.Context) error {
	if w.pod != nil && !slices.ContainsFunc(w.pod.Spec.Volumes, holdsOthers) {
		return nil
	}
	if err := w.agent.cfg.Volumes.Unmount(w.uid); err != nil {
		return fmt.Errorf("volumes: %w", err)
	}
	return w.agent.cfg.Runtime.ReleaseImages(ctx, w.uid)
}

func holdsOthers(v corev1.Volume) bool {
	return v.Image != nil || v.NFS != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil
}
