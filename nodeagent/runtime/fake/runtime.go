package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const (
	sigkill = 9
	sigterm = 15
)

// Image implements runtime.Runtime. References are compared as they are.
func (r *Runtime) Image(ctx context.Context, ref string) (rt.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Image"); err != nil {
		return rt.Image{}, err
	}
	img, ok := r.images[ref]
	if !ok {
		return rt.Image{}, fmt.Errorf("image %s: %w", ref, rt.ErrImageNotFound)
	}
	return img, nil
}

// Pull implements runtime.Runtime, from what AddRemoteImage made.
func (r *Runtime) Pull(ctx context.Context, ref string) (rt.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Pull"); err != nil {
		return rt.Image{}, err
	}
	img, ok := r.remote[ref]
	if !ok {
		return rt.Image{}, fmt.Errorf("pull %s: %w: the registry does not have it", ref, rt.ErrImagePull)
	}
	r.images[ref] = img
	return img, nil
}

// Import implements runtime.Runtime: the path becomes the reference.
func (r *Runtime) Import(ctx context.Context, path string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Import"); err != nil {
		return nil, err
	}
	r.images[path] = rt.Image{Ref: path, ID: "sha256:" + path}
	return []string{path}, nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, spec rt.Container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Start"); err != nil {
		return err
	}
	img, ok := r.images[spec.Image]
	if !ok {
		return fmt.Errorf("start %s: image %s: %w", spec.ID, spec.Image, rt.ErrImageNotFound)
	}
	if _, ok := r.containers[spec.ID]; ok {
		return fmt.Errorf("start %s: a container with this id exists", spec.ID)
	}
	r.pid++
	now := time.Now()
	r.containers[spec.ID] = &container{spec: spec, status: rt.Status{
		ID: spec.ID, Pod: spec.Pod, Name: spec.Name, Attempt: spec.Attempt, SpecHash: spec.SpecHash,
		Image: spec.Image, ImageID: img.ID, State: rt.Running, PID: r.pid, CreatedAt: now, StartedAt: now,
	}}
	return nil
}

// Signal implements runtime.Runtime: SIGTERM and SIGKILL end a container.
func (r *Runtime) Signal(ctx context.Context, id string, signal int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Signal"); err != nil {
		return err
	}
	c, ok := r.containers[id]
	if !ok || c.status.State != rt.Running {
		return fmt.Errorf("signal %s: %w", id, rt.ErrNotFound)
	}
	if signal == sigkill || signal == sigterm && !r.ignoreTerm[c.spec.Name] {
		r.exitLocked(id, 128+signal, false)
	}
	return nil
}

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Kill"); err != nil {
		return err
	}
	r.exitLocked(id, 128+sigkill, false)
	return nil
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Remove"); err != nil {
		return err
	}
	r.exitLocked(id, 128+sigkill, false)
	delete(r.containers, id)
	return nil
}

// Exec implements runtime.Runtime by the function given to OnExec.
func (r *Runtime) Exec(ctx context.Context, id string, command []string, maxOutput int) (int, []byte, error) {
	r.mu.Lock()
	err := r.enterLocked(ctx, "Exec")
	c, ok := r.containers[id]
	running := ok && c.status.State == rt.Running
	answer := r.execs
	r.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	if !running {
		return 0, nil, fmt.Errorf("exec in %s: %w", id, rt.ErrNotFound)
	}
	if answer == nil {
		return 0, nil, nil
	}
	code, output, err := answer(ctx, id, command)
	return code, output[:min(len(output), maxOutput)], err
}

// Containers implements runtime.Runtime, in order of id.
func (r *Runtime) Containers(ctx context.Context) ([]rt.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Containers"); err != nil {
		return nil, err
	}
	list := make([]rt.Status, 0, len(r.containers))
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		list = append(list, r.containers[id].status)
	}
	return list, nil
}

// Events implements runtime.Runtime.
func (r *Runtime) Events(ctx context.Context) (<-chan rt.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Events"); err != nil {
		return nil, err
	}
	s := &subscription{ch: make(chan rt.Event, 1024)}
	r.subs[s] = struct{}{}
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closeLocked(s)
	})
	return s.ch, nil
}

// Version implements runtime.Runtime.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "fake://1", r.enterLocked(ctx, "Version")
}

// Cleanup implements runtime.Runtime.
func (r *Runtime) Cleanup(ctx context.Context, images bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Cleanup"); err != nil {
		return err
	}
	clear(r.containers)
	if images {
		clear(r.images)
	}
	return nil
}
