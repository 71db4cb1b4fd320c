package fake

import (
	"context"
	"fmt"
	"maps"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// MountImage implements runtime.Runtime. Nothing is mounted; Mounted lists it.
func (r *Runtime) MountImage(ctx context.Context, m rt.ImageMount) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "MountImage"); err != nil {
		return err
	}
	if _, ok := r.images[m.Image]; !ok {
		return fmt.Errorf("mount image %s: %w", m.Image, rt.ErrImageNotFound)
	}
	r.mounted[m.Target] = m
	return nil
}

// ReleaseImages implements runtime.Runtime.
func (r *Runtime) ReleaseImages(ctx context.Context, podUID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "ReleaseImages"); err != nil {
		return err
	}
	maps.DeleteFunc(r.mounted, func(_ string, m rt.ImageMount) bool { return m.PodUID == podUID })
	return nil
}

// Mounted is what is mounted of images, by target.
func (r *Runtime) Mounted() map[string]rt.ImageMount {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.mounted)
}
