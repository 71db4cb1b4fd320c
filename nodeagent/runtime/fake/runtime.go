package fake

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
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

// Pull implements runtime.Runtime, from what AddRemoteImage made. An image
// with keys of access wants a credential that has one of them.
func (r *Runtime) Pull(ctx context.Context, ref string, options rt.PullOptions) (rt.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Pull"); err != nil {
		return rt.Image{}, err
	}
	img, ok := r.remote[ref]
	if !ok {
		return rt.Image{}, fmt.Errorf("pull %s: %w: the registry does not have it", ref, rt.ErrImagePull)
	}
	if !opens(options.Credentials, img.Access) {
		return rt.Image{}, fmt.Errorf("pull %s: %w: the registry lets nobody in without credentials", ref, rt.ErrImagePull)
	}
	if options.Progress != nil {
		options.Progress(rt.Progress{Done: img.Size / 2, Total: img.Size})
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

func opens(credentials []rt.Credential, access rt.Access) bool {
	if len(access.Keys) == 0 {
		return true
	}
	return slices.ContainsFunc(credentials, func(c rt.Credential) bool {
		return slices.ContainsFunc(c.Keys, func(key string) bool { return slices.Contains(access.Keys, key) })
	})
}

// Images implements runtime.Runtime.
func (r *Runtime) Images(ctx context.Context) ([]rt.StoredImage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Images"); err != nil {
		return nil, err
	}
	byID := map[string]rt.StoredImage{}
	for _, ref := range slices.Sorted(maps.Keys(r.images)) {
		img := byID[r.images[ref].ID]
		img.ID, img.Size, img.Refs = r.images[ref].ID, r.images[ref].Size, append(img.Refs, ref)
		byID[img.ID] = img
	}
	var out []rt.StoredImage
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, byID[id])
	}
	return out, nil
}

// RemoveImage implements runtime.Runtime.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "RemoveImage"); err != nil {
		return err
	}
	maps.DeleteFunc(r.images, func(_ string, img rt.Image) bool { return img.ID == id })
	return nil
}

// Collect implements runtime.Runtime: there is nothing that nothing refers to.
func (r *Runtime) Collect(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enterLocked(ctx, "Collect")
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
		ID: spec.ID, Pod: spec.Pod, Name: spec.Name, Attempt: spec.Attempt, Round: spec.Round, SpecHash: spec.SpecHash, Note: spec.Note, StopSignal: spec.StopSignal,
		Image: spec.Image, ImageID: img.ID, State: rt.Running, PID: r.pid, CreatedAt: now, StartedAt: now,
	}}
	return nil
}

// StartInit implements runtime.Runtime. It counts as "StartInit".
func (r *Runtime) StartInit(ctx context.Context, spec rt.Container) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "StartInit"); err != nil {
		return 0, err
	}
	r.pid++
	now := time.Now()
	r.containers[spec.ID] = &container{spec: spec, status: rt.Status{
		ID: spec.ID, Pod: spec.Pod, Name: spec.Name, Attempt: spec.Attempt, State: rt.Running, PID: r.pid, CreatedAt: now, StartedAt: now,
	}}
	return r.pid, nil
}

// Note implements runtime.Runtime.
func (r *Runtime) Note(ctx context.Context, id, note string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Note"); err != nil {
		return err
	}
	c, ok := r.containers[id]
	if !ok {
		return fmt.Errorf("note on %s: %w", id, rt.ErrNotFound)
	}
	c.status.Note = note
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

// Stream implements runtime.Runtime by the function given to OnExec, whose
// output goes to Stdout.
func (r *Runtime) Stream(ctx context.Context, id string, command rt.Command) (int, error) {
	code, output, err := r.Exec(ctx, id, command.Args, math.MaxInt)
	if err == nil && command.Stdout != nil {
		_, err = command.Stdout.Write(output)
	}
	return code, err
}

// Stdin implements runtime.Runtime: what is written can be asked of Input.
func (r *Runtime) Stdin(ctx context.Context, id string) (io.WriteCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Stdin"); err != nil {
		return nil, err
	}
	c, ok := r.containers[id]
	if !ok || c.status.State != rt.Running || !c.spec.Stdin || c.eof {
		return nil, fmt.Errorf("standard input of %s: %w", id, rt.ErrNotFound)
	}
	return input{r, c}, nil
}

type input struct {
	r *Runtime
	c *container
}

func (i input) Write(p []byte) (int, error) {
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	if i.c.eof {
		return 0, io.ErrClosedPipe
	}
	i.c.input = append(i.c.input, p...)
	return len(p), nil
}

func (i input) Close() error { return nil }

// CloseStdin implements runtime.Runtime.
func (r *Runtime) CloseStdin(ctx context.Context, id string) error {
	return r.onRunning(ctx, "CloseStdin", id, func(c *container) { c.eof = true })
}

// Update implements runtime.Runtime: Spec has the new resources.
func (r *Runtime) Update(ctx context.Context, u rt.Update) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "Update"); err != nil {
		return err
	}
	for _, c := range r.containers {
		if c.spec.CgroupParent == u.CgroupParent {
			c.spec.PodResources = u.Pod
		}
	}
	for _, one := range u.Containers {
		if c, ok := r.containers[one.ID]; ok && c.status.State == rt.Running {
			c.spec.Resources = one.Resources
		}
	}
	return nil
}

// Resize implements runtime.Runtime: the size can be asked of Terminal.
func (r *Runtime) Resize(ctx context.Context, id string, size rt.TerminalSize) error {
	return r.onRunning(ctx, "Resize", id, func(c *container) { c.size = size })
}

func (r *Runtime) onRunning(ctx context.Context, method, id string, do func(*container)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, method); err != nil {
		return err
	}
	c, ok := r.containers[id]
	if !ok || c.status.State != rt.Running {
		return fmt.Errorf("%s %s: %w", strings.ToLower(method), id, rt.ErrNotFound)
	}
	do(c)
	return nil
}

// DiskUsage implements runtime.Runtime: containers wrote nothing.
func (r *Runtime) DiskUsage(ctx context.Context, id string) (rt.DiskUsage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "DiskUsage"); err != nil {
		return rt.DiskUsage{}, err
	}
	if _, ok := r.containers[id]; !ok {
		return rt.DiskUsage{}, fmt.Errorf("disk usage of %s: %w", id, rt.ErrNotFound)
	}
	return rt.DiskUsage{}, nil
}

// ImageDisk implements runtime.Runtime by the sizes that images were added
// with.
func (r *Runtime) ImageDisk(ctx context.Context) (string, rt.DiskUsage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(ctx, "ImageDisk"); err != nil {
		return "", rt.DiskUsage{}, err
	}
	var usage rt.DiskUsage
	for _, img := range r.images {
		usage.Bytes += img.Size
	}
	return "/", usage, nil
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
