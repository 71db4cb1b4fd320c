package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// imageLook is how often it is noted which images are used, as often as the
// kubelet does it.
const imageLook = 5 * time.Minute

// collector removes what the node's pods no longer need. It is for one
// goroutine.
type collector struct {
	agent  *agent
	ages   images.Ages
	looked time.Time
	told   time.Time // when it was last said that too little could be freed
}

// keepImages notes which images are used, and removes unused ones when their
// disk is as full as the thresholds say.
func (c *collector) keepImages(ctx context.Context, o pressure.Observations) error {
	thresholds := c.agent.cfg.Eviction.ImageGC
	if thresholds.High == 0 {
		return nil
	}
	disk, known := o[pressure.ImageFSAvailable]
	bytes := int64(0)
	if known {
		bytes = thresholds.ToFree(disk.Capacity, disk.Available)
	}
	now := time.Now()
	if bytes == 0 && now.Sub(c.looked) < imageLook {
		return nil
	}
	list, inUse, err := c.see(ctx, now)
	if err != nil || bytes == 0 {
		return err
	}
	freed, err := c.remove(ctx, images.Enough(c.ages.Unused(list, inUse, thresholds.MinAge, now), bytes))
	if err == nil && freed < bytes && now.Sub(c.told) > imageLook {
		c.told = now
		c.agent.warnNode("FreeDiskSpaceFailed", fmt.Sprintf("the images' disk is %d %% full and %d bytes should be freed, but unused images make up for %d only: "+
			"look for what else fills it, or give the node more disk", 100-disk.Available*100/disk.Capacity, bytes, freed))
	}
	return err
}

// reclaim removes all that can be spared of the disk: containers of pods that
// have ended, unused images, and what interrupted pulls left.
func (c *collector) reclaim(ctx context.Context) error {
	errs := []error{c.removeDead(ctx)}
	now := time.Now()
	list, inUse, err := c.see(ctx, now)
	if err == nil {
		_, err = c.remove(ctx, c.ages.Unused(list, inUse, c.agent.cfg.Eviction.ImageGC.MinAge, now))
	}
	return errors.Join(append(errs, err, c.agent.cfg.Runtime.Collect(ctx))...)
}

// see takes in which images there are and which are used: by a container,
// running or not, or by a pod that has yet to start it.
func (c *collector) see(ctx context.Context, now time.Time) (list []images.Image, inUse map[string]bool, err error) {
	stored, err := c.agent.cfg.Runtime.Images(ctx)
	if err != nil {
		return nil, nil, err
	}
	inUse = map[string]bool{}
	for _, s := range c.agent.observer.all() {
		inUse[s.ImageID] = true
	}
	for ref := range c.agent.imagesOfPods() {
		img, err := c.agent.cfg.Runtime.Image(ctx, ref)
		switch {
		case err == nil:
			inUse[img.ID] = true
		case errors.Is(err, runtime.ErrUnavailable):
			return nil, nil, err
		}
	}
	for _, s := range stored {
		list = append(list, images.Image{ID: s.ID, Refs: s.Refs, Size: s.Size, Pinned: s.Pinned})
	}
	c.ages.See(list, inUse, now)
	c.looked = now
	return list, inUse, nil
}

// imagesOfPods are the references in pods that are bound here and have not
// ended.
func (a *agent) imagesOfPods() map[string]bool {
	refs := map[string]bool{}
	for _, pod := range a.livePods() {
		for _, ref := range imagesOf(pod) {
			refs[ref] = true
		}
	}
	return refs
}

// imagesOf are the references of a pod's containers and of its volumes.
func imagesOf(pod *corev1.Pod) []string {
	var out []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		out = append(out, c.Image)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		out = append(out, c.Image)
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].Image; v != nil {
			out = append(out, v.Reference)
		}
	}
	return out
}

// livePods are the pods that are bound here and have not ended.
func (a *agent) livePods() []*corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*corev1.Pod
	for uid, w := range a.workers {
		if pod := a.bindings.pod(uid); pod != nil && !w.ended.Load() {
			out = append(out, pod)
		}
	}
	return out
}

// remove removes images, and returns the bytes that they had.
func (c *collector) remove(ctx context.Context, list []images.Image) (freed int64, err error) {
	for _, img := range list {
		err := c.agent.cfg.Runtime.RemoveImage(ctx, img.ID)
		if errors.Is(err, runtime.ErrImageInUse) {
			continue
		}
		if err != nil {
			return freed, fmt.Errorf("remove image %v: %w", img.Refs, err)
		}
		freed += img.Size
		c.agent.cfg.Logger.Info("unused image removed", "image", img.Refs, "bytes", img.Size)
	}
	if len(list) == 0 {
		return 0, nil
	}
	return freed, c.agent.cfg.Runtime.Collect(ctx)
}

// removeDead removes the containers of pods that have ended: their statuses
// are reported, and their logs stay.
func (c *collector) removeDead(ctx context.Context) error {
	var errs []error
	for _, s := range c.agent.observer.all() {
		if s.State != runtime.Exited || !c.agent.hasEnded(s.Pod.UID) {
			continue
		}
		if err := c.agent.cfg.Runtime.Remove(ctx, s.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove container %s: %w", s.ID, err))
			continue
		}
		c.agent.observer.forget(s.Pod.UID, s.ID)
	}
	return errors.Join(errs...)
}

func (a *agent) hasEnded(uid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[uid]
	return w != nil && w.ended.Load()
}
