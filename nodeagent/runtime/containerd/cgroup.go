package containerd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups are the machine's cgroup hierarchies: several with version 1, one
// with version 2, both on a hybrid machine.
type cgroups struct {
	mounts []string // where they are mounted
	memory string   // the version 1 hierarchy with the memory controller, or ""

	controllers map[string]string // of version 1: where each is mounted
	unified     bool              // version 2 only
}

// readCgroups finds the hierarchies in a mountinfo file.
func readCgroups(mountinfo string) (cgroups, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return cgroups{}, fmt.Errorf("read cgroup mounts: %w", err)
	}
	defer f.Close()
	found := cgroups{unified: true, controllers: map[string]string{}}
	for scan := bufio.NewScanner(f); scan.Scan(); {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || slices.Contains(found.mounts, left[4]) {
			continue
		}
		switch right[0] {
		case "cgroup":
			found.unified = false
			for option := range strings.SplitSeq(right[2], ",") {
				found.controllers[option] = left[4]
			}
			found.memory = found.controllers["memory"]
		case "cgroup2":
		default:
			continue
		}
		found.mounts = append(found.mounts, left[4])
	}
	if len(found.mounts) == 0 {
		return cgroups{}, errors.New("no cgroup file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return found, nil
}

// oomKills counts the processes of a cgroup that the kernel killed for want of
// memory. Zero when the cgroup is gone.
func (c cgroups) oomKills(path string) int {
	file := filepath.Join(c.memory, path, "memory.oom_control")
	if c.unified {
		file = filepath.Join(c.mounts[0], path, "memory.events")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			n, _ := strconv.Atoi(strings.TrimSpace(count))
			return n
		}
	}
	return 0
}

// processes lists the pids in a cgroup, of all hierarchies.
func (c cgroups) processes(path string) []int {
	var pids []int
	for _, mount := range c.mounts {
		data, err := os.ReadFile(filepath.Join(mount, path, "cgroup.procs"))
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// below names the cgroups right below one, of all hierarchies.
func (c cgroups) below(path string) []string {
	var names []string
	for _, mount := range c.mounts {
		entries, err := os.ReadDir(filepath.Join(mount, path))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() && !slices.Contains(names, entry.Name()) {
				names = append(names, entry.Name())
			}
		}
	}
	return names
}

// kill ends every process of a cgroup and returns when none is left.
func (c cgroups) kill(ctx context.Context, path string) error {
	for {
		pids := c.processes(path)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("kill cgroup %s: processes %v remain: %w", path, pids, err)
		}
	}
}

// remove deletes a cgroup with everything below it, in every hierarchy. Nil if
// it is gone; an error if a process lives in it.
func (c cgroups) remove(path string) error {
	if !insideTree(path) {
		return fmt.Errorf("remove cgroup %q: not a path below the root", path)
	}
	var errs []error
	for _, mount := range c.mounts {
		errs = append(errs, removeTree(filepath.Join(mount, path)))
	}
	return errors.Join(errs...)
}

// removeEmpty deletes one cgroup where nothing is in it, and reports whether
// it is gone everywhere.
func (c cgroups) removeEmpty(path string) bool {
	if !insideTree(path) {
		return false
	}
	all := true
	for _, mount := range c.mounts {
		err := syscall.Rmdir(filepath.Join(mount, path))
		all = all && (err == nil || errors.Is(err, fs.ErrNotExist))
	}
	return all
}

// insideTree guards against removing a machine's whole cgroup tree.
func insideTree(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) != "/"
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
