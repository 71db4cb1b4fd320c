package containerd

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
)

// Signal sends a signal to the container's first process.
func (r *Runtime) Signal(ctx context.Context, id string, signal int) error {
	_, err := r.client.TaskService().Kill(r.scope(ctx), &tasks.KillRequest{ContainerID: id, Signal: uint32(signal)})
	return wrap(fmt.Sprintf("signal %s with %d", id, signal), err)
}

// Kill ends the container's first process, and with it, as it heads its own
// pid namespace, all others.
func (r *Runtime) Kill(ctx context.Context, id string) error {
	ctx = r.scope(ctx)
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL)})
	if err != nil && !gone(err) {
		if lost(err) {
			return r.killLost(ctx, id)
		}
		return wrap("kill "+id, err)
	}
	if _, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id}); err != nil {
		if gone(err) || lost(err) {
			return r.killLost(ctx, id)
		}
		return wrap("wait for "+id, err)
	}
	return nil
}

// lost reports whether an error says that the container's shim is gone, while
// containerd has not noticed yet.
func lost(err error) bool {
	err = native(err)
	return errdefs.IsUnavailable(err) || errdefs.IsUnknown(err)
}

// killLost ends what a container without a shim may have left running.
func (r *Runtime) killLost(ctx context.Context, id string) error {
	if _, err := r.client.Version(ctx); err != nil {
		return unavailable("kill "+id, err)
	}
	rec, err := r.load(ctx, id)
	if gone(err) {
		return nil
	}
	if err != nil {
		return wrap("kill "+id, err)
	}
	if rec.parent == "" {
		return nil
	}
	return r.cgroups.kill(ctx, rec.cgroup())
}

func (r *Runtime) load(ctx context.Context, id string) (record, error) {
	if rec, ok := r.recall(id); ok {
		return rec, nil
	}
	got, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return record{}, err
	}
	return r.remember(id, got.Labels, got.CreatedAt), nil
}

// Remove deletes a container; what still runs of it is killed.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	return r.remove(r.scope(ctx), id)
}

func (r *Runtime) remove(ctx context.Context, id string) error {
	got, err := r.client.ContainerService().Get(ctx, id)
	if gone(err) {
		r.forget(id)
		return nil
	}
	if err != nil {
		return wrap("remove "+id, err)
	}
	rec := parseRecord(id, got.Labels, got.CreatedAt)
	clean, err := r.removeTask(ctx, id)
	if err != nil {
		return err
	}
	if err := r.removeCgroup(ctx, rec); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if err := r.unmountRoot(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if err := os.Remove(r.stdinPath(id)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if got.SnapshotKey != "" {
		if err := r.client.SnapshotService(got.Snapshotter).Remove(ctx, got.SnapshotKey); err != nil && !gone(err) {
			return wrap("remove the snapshot of "+id, err)
		}
	}
	if err := r.client.ContainerService().Delete(ctx, id); err != nil && !gone(err) {
		return wrap("remove "+id, err)
	}
	r.forget(id)
	if clean {
		return nil
	}
	return r.sweepShims(ctx)
}

// deleteWithin bounds the deletion of a task.
const deleteWithin = 10 * time.Second

// removeTask kills the task if it runs, and deletes it. clean is false where
// containerd had lost sight of it, and maybe of its shim too.
func (r *Runtime) removeTask(ctx context.Context, id string) (clean bool, err error) {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if gone(err) {
		return false, r.removeHalfMade(ctx, id)
	}
	if err != nil && !lost(err) {
		return false, wrap("look at the task of "+id, err)
	}
	clean = err == nil
	if err != nil || got.Process.Status != task.Status_STOPPED {
		if err := r.Kill(ctx, id); err != nil {
			return false, err
		}
	}
	// containerd leaves the shim behind if its caller goes in the middle.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	_, err = r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err != nil && !gone(err) && !lost(err) {
		return false, wrap("delete the task of "+id, err)
	}
	return clean && err == nil, nil
}

// unmountRoot detaches a root file system that a killed shim left mounted, and
// containerd has not come to yet.
func (r *Runtime) unmountRoot(id string) error {
	rootfs := "/" + path.Join(r.cfg.Namespace, id, "rootfs")
	return unmount(func(point string) bool { return strings.HasSuffix(point, rootfs) })
}

// removeCgroup makes sure that no process is left, and deletes the container's
// cgroup where the OCI runtime did not, and the pod's when it is empty.
func (r *Runtime) removeCgroup(ctx context.Context, rec record) error {
	if !insideTree(rec.parent) {
		return nil
	}
	if err := r.cgroups.kill(ctx, rec.cgroup()); err != nil {
		return err
	}
	if err := r.cgroups.remove(rec.cgroup()); err != nil {
		return err
	}
	r.removeParent(rec.parent)
	return nil
}

// removeParent deletes a pod's cgroup unless something is in it, or is being
// started in it.
func (r *Runtime) removeParent(parent string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parents[parent] == 0 {
		r.cgroups.removeEmpty(path.Clean(parent))
	}
}

// sweepCgroups deletes the cgroups of pods in which nothing is any more: who
// ends in the middle of a start or a removal leaves one behind.
func (r *Runtime) sweepCgroups() {
	if !insideTree(r.cfg.CgroupRoot) {
		return
	}
	for _, name := range r.cgroups.below(r.cfg.CgroupRoot) {
		r.removeParent(path.Join(r.cfg.CgroupRoot, name))
	}
}
