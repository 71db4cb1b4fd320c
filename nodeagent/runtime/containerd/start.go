package containerd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	apitypes "github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const (
	shim      = "io.containerd.runc.v2"
	leaseTime = time.Hour
)

// Start makes and starts a container. It costs six calls to containerd: the
// image, the container's record, its snapshot, the task's creation and start,
// and the note of when it started.
func (r *Runtime) Start(ctx context.Context, c rt.Container) error {
	ctx = r.scope(ctx)
	if err := validate(c); err != nil {
		return err
	}
	img, release, err := r.heldImage(ctx, c.Image)
	if err != nil {
		return err
	}
	defer release()
	spec, err := r.spec(ctx, c, img)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.ID, err)
	}
	return r.create(ctx, c, img, spec, func() ([]mount.Mount, error) {
		mounts, err := r.prepare(ctx, c.ID, img)
		return labelled(mounts, spec.Linux.MountLabel), err
	})
}

func validate(c rt.Container) error {
	switch {
	case c.ID == "":
		return fmt.Errorf("start container: %w: it has no ID", rt.ErrStart)
	case len(c.Args) == 0:
		return fmt.Errorf("start %s: %w: no command: neither the pod nor the image names one", c.ID, rt.ErrStart)
	case c.Stdout != "" && !filepath.IsAbs(c.Stdout), c.Stderr != "" && !filepath.IsAbs(c.Stderr):
		return fmt.Errorf("start %s: %w: outputs %q and %q are not absolute paths", c.ID, rt.ErrStart, c.Stdout, c.Stderr)
	case !insideTree(c.CgroupParent):
		return fmt.Errorf("start %s: %w: cgroup parent %q is not a path below the root", c.ID, rt.ErrStart, c.CgroupParent)
	}
	return nil
}

func (r *Runtime) spec(ctx context.Context, c rt.Container, img image) (*specs.Spec, error) {
	who, err := r.identify(ctx, img, c.Security)
	if err != nil {
		return nil, err
	}
	var devices []specs.LinuxDevice
	if c.Security.Privileged {
		if devices, err = oci.HostDevices(); err != nil {
			return nil, fmt.Errorf("list the machine's devices: %w", err)
		}
	}
	if c.Namespaces.User != "" {
		if err := withinUsers(who, c.Namespaces.Users); err != nil {
			return nil, err
		}
	}
	spec := buildSpec(r.shown(c), img, who, r.machine, devices)
	if err := r.protect(spec, c); err != nil {
		return nil, err
	}
	return spec, nil
}

// hold keeps a container's parent cgroup from being removed as empty, and the
// container from being seen as gone, until its task exists.
func (r *Runtime) hold(c rt.Container) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting[c.ID] = true
	r.parents[c.CgroupParent]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.starting, c.ID)
		if r.parents[c.CgroupParent]--; r.parents[c.CgroupParent] == 0 {
			delete(r.parents, c.CgroupParent)
		}
	}
}

// create writes the record first: it is what keeps containerd's garbage
// collector from the snapshot, and what tells a successor to clean up.
func (r *Runtime) create(ctx context.Context, c rt.Container, img image, spec *specs.Spec, root func() ([]mount.Mount, error)) error {
	release := r.hold(c)
	err := r.createHeld(ctx, c, img, spec, root)
	release()
	if err != nil {
		r.removeParent(c.CgroupParent)
	}
	return err
}

func (r *Runtime) createHeld(ctx context.Context, c rt.Container, img image, spec *specs.Spec, root func() ([]mount.Mount, error)) (err error) {
	labels := containerLabels(c, img)
	if err := r.createRecord(ctx, c, img, spec, labels); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.rollback(ctx, c))
		}
	}()
	if err := r.cgroups.shape(c.CgroupParent, c.PodResources, r.machine.swap); err != nil {
		return fmt.Errorf("start %s: %w", c.ID, err)
	}
	mounts, err := root()
	if err == nil && c.Namespaces.User != "" {
		defer func() { err = errors.Join(err, r.dropMapped(c.ID)) }()
		mounts, err = r.mapMounts(c, mounts)
	}
	if err != nil {
		return err
	}
	if err := r.startTask(ctx, c, mounts); err != nil {
		return startError(c.ID, err)
	}
	return r.noteStarted(ctx, c.ID, labels)
}

func (r *Runtime) createRecord(ctx context.Context, c rt.Container, img image, spec *specs.Spec, labels map[string]string) error {
	encoded, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("start %s: encode spec: %w", c.ID, err)
	}
	record := containers.Container{
		ID: c.ID, Labels: labels, Image: img.record.Name, Spec: encoded,
		Snapshotter: r.cfg.Snapshotter, SnapshotKey: c.ID,
		Runtime: containers.RuntimeInfo{Name: shim},
	}
	if r.cfg.OCIRuntime != "runc" || c.Namespaces.User != "" {
		// Whose the pipes of its outputs are, which it may open by /dev/stdout.
		root := c.Namespaces.FirstUser
		record.Runtime.Options, err = typeurl.MarshalAny(&options.Options{BinaryName: r.cfg.OCIRuntime, IoUid: root, IoGid: root})
		if err != nil {
			return fmt.Errorf("start %s: encode runtime options: %w", c.ID, err)
		}
	}
	if _, err := r.client.ContainerService().Create(ctx, record); err != nil {
		return wrap("create container "+c.ID, err)
	}
	return nil
}

// prepare makes the container's writable snapshot, and once again after
// unpacking the image if its snapshot has been lost.
func (r *Runtime) prepare(ctx context.Context, id string, img image) ([]mount.Mount, error) {
	snapshotter := r.client.SnapshotService(r.cfg.Snapshotter)
	mounts, err := snapshotter.Prepare(ctx, id, img.chain)
	if exists(err) {
		if err = snapshotter.Remove(ctx, id); err == nil {
			mounts, err = snapshotter.Prepare(ctx, id, img.chain)
		}
	}
	if gone(err) {
		if err := r.repack(ctx, img); err != nil {
			return nil, err
		}
		mounts, err = snapshotter.Prepare(ctx, id, img.chain)
	}
	return mounts, wrap("make the root file system of "+id, err)
}

// repack unpacks an image that was thought to be unpacked.
func (r *Runtime) repack(ctx context.Context, img image) error {
	r.images.setUnpacked(img.chain, false)
	return r.ensureUnpacked(ctx, img)
}

func (r *Runtime) startTask(ctx context.Context, c rt.Container, mounts []mount.Mount) error {
	// The shim opens what is no pipe to append to it. It wants both outputs, or
	// none.
	if c.Stderr == "" && !c.TTY {
		c.Stderr = c.Stdout
	}
	request := &tasks.CreateTaskRequest{ContainerID: c.ID, Stdout: c.Stdout, Stderr: c.Stderr, Terminal: c.TTY}
	if c.Stdin {
		path, err := r.makeStdin(c.ID)
		if err != nil {
			return err
		}
		request.Stdin = path
	}
	for _, m := range mounts {
		request.Rootfs = append(request.Rootfs, &apitypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	if _, err := r.client.TaskService().Create(ctx, request); err != nil {
		return err
	}
	_, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: c.ID})
	return err
}

func (r *Runtime) noteStarted(ctx context.Context, id string, labels map[string]string) error {
	started := map[string]string{labelStarted: time.Now().UTC().Format(time.RFC3339Nano)}
	record, err := r.client.ContainerService().Update(ctx, containers.Container{ID: id, Labels: started}, "labels."+labelStarted)
	if err != nil {
		return wrap("note the start of "+id, err)
	}
	labels = maps.Clone(labels)
	maps.Copy(labels, started)
	r.remember(id, labels, record.CreatedAt)
	return nil
}

// rollback leaves nothing of a start that did not succeed, even if the
// caller's context has ended.
func (r *Runtime) rollback(ctx context.Context, c rt.Container) error {
	ctx, cancel := r.detached(ctx)
	defer cancel()
	if err := r.remove(ctx, c.ID); err != nil {
		return fmt.Errorf("clean up after it: %w", err)
	}
	return nil
}

func randomID() string { return strings.ToLower(rand.Text()) }
