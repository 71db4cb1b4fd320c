package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// shimProcess holds the containers of one pod.
type shimProcess struct {
	process
	id string // of the container that it was started for
}

// shims are the shims of a containerd namespace, by what their command lines
// say. A process that ends while this looks is left out.
func shims(namespace string) ([]shimProcess, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var out []shimProcess
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if id, ok := shimOf(line, namespace); ok && err == nil {
			out = append(out, shimProcess{processOf(pid), id})
		}
	}
	return out, nil
}

// shimOf reads the command line of a process: the ID that a shim of the
// namespace was started for. What a shim is given after its own flags ("start",
// "delete") is a call of containerd's that ends by itself.
func shimOf(line []byte, namespace string) (id string, ok bool) {
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") || slices.Contains(args, "start") || slices.Contains(args, "delete") {
		return "", false
	}
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	return value("-id"), value("-namespace") == namespace && value("-id") != ""
}

// sweepShims ends the node's shims that hold nothing and whose pods have no
// container any more: containerd forgets to, when it or its caller ends in the
// middle of a deletion. The containers are listed after the shims were, so that
// one that is being started is among them.
func (r *Runtime) sweepShims(ctx context.Context) error {
	all, err := shims(r.cfg.Namespace)
	if err != nil {
		return fmt.Errorf("look for shims: %w", err)
	}
	records, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return wrap("list containers", err)
	}
	pods := map[string]bool{}
	for _, c := range records {
		pods[c.Labels[labelPodUID]] = true
	}
	var errs []error
	for _, s := range all {
		if belongs(s.id, pods) || hasChildren(s.pid) {
			continue
		}
		r.log.Warn("shim of a pod that is gone, ended", "pid", s.pid, "container", s.id)
		if err := end(ctx, s.process); err != nil {
			errs = append(errs, fmt.Errorf("end shim %d of %s: %w", s.pid, s.id, err))
		}
	}
	return errors.Join(errs...)
}

// sweepEvery is how often forgotten shims are looked for without a reason.
const sweepEvery = time.Minute

func (r *Runtime) keepSweeping(ctx context.Context) {
	for ctx.Err() == nil {
		r.sweepCgroups()
		if err := errors.Join(r.sweepMapped(), r.sweepShims(ctx), r.sweepLeases(ctx)); err != nil && ctx.Err() == nil {
			r.log.Warn("what containerd forgot not removed", "error", err)
		}
		_ = pause(ctx, sweepEvery)
	}
}

// belongs: a container's ID begins with its pod's UID.
func belongs(id string, pods map[string]bool) bool {
	for uid := range pods {
		if uid != "" && strings.HasPrefix(id, uid) {
			return true
		}
	}
	return false
}

// hasChildren reports whether a process has any, also if that is not known.
func hasChildren(pid int) bool {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return true
	}
	for _, list := range lists {
		if children, err := os.ReadFile(list); err == nil && len(bytes.TrimSpace(children)) > 0 {
			return true
		}
	}
	return false
}

// termWait is how long a shim has to clean up behind itself.
const termWait = 2 * time.Second

// end ends a process and waits until it is gone.
func end(ctx context.Context, p process) error {
	ctx, cancel := context.WithTimeout(ctx, termWait+3*time.Second)
	defer cancel()
	for signal, began := syscall.SIGTERM, time.Now(); p.lives(); {
		if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if time.Since(began) > termWait {
			signal = syscall.SIGKILL
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// awaitShims waits until shims are gone that end by themselves, having lost
// their containers: containerd does not wait for that.
func awaitShims(ctx context.Context, ending []shimProcess) {
	ctx, cancel := context.WithTimeout(ctx, termWait)
	defer cancel()
	for _, s := range ending {
		for s.lives() && pause(ctx, 5*time.Millisecond) == nil {
		}
	}
}
