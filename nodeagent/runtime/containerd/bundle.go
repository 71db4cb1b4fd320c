package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// removeHalfMade removes what a containerd that was killed in the middle of a
// task's creation has of it, and would refuse another task of that ID for: it
// may know the task's shim, which does not know the task, or nothing but the
// task's directory.
func (r *Runtime) removeHalfMade(ctx context.Context, id string) error {
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	switch {
	case lost(err):
		return nil // it is coming to it
	case err != nil && !gone(err):
		return wrap("delete the task of "+id, err)
	}
	bundle := filepath.Join(r.cfg.DaemonState, "io.containerd.runtime.v2.task", r.cfg.Namespace, id)
	if _, err := os.Lstat(bundle); err != nil {
		return nil
	}
	if err := r.unmountRoot(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	work, err := os.Readlink(filepath.Join(bundle, "work"))
	if err == nil && strings.HasSuffix(work, filepath.Join("/", r.cfg.Namespace, id)) {
		if err := os.RemoveAll(work); err != nil {
			return fmt.Errorf("remove %s: %w", id, err)
		}
	}
	if err := os.RemoveAll(bundle); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	r.log.Warn("half made task removed", "container", id)
	return nil
}
