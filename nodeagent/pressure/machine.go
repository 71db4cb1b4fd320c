package pressure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Machine measures the machine that it runs on. The zero value is the real
// one.
type Machine struct {
	Proc    string // default /proc
	Cgroups string // default /sys/fs/cgroup
}

func (m Machine) proc(path string) string { return filepath.Join(orElse(m.Proc, "/proc"), path) }
func (m Machine) cgroups(path string) string {
	return filepath.Join(orElse(m.Cgroups, "/sys/fs/cgroup"), path)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Observe measures memory, process IDs and the file systems of two
// directories: that of volumes and logs, and that of images. separate says
// that they are two. What cannot be read is left out, and is the error.
func (m Machine) Observe(nodeDir, imageDir string) (o Observations, separate bool, err error) {
	o = Observations{}
	var errs []error
	note := func(s Signal, seen Observation, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
		} else if seen.Capacity > 0 {
			o[s] = seen
		}
	}
	memory, err := m.memory()
	note(MemoryAvailable, memory, err)
	processes, err := m.processes()
	note(PIDAvailable, processes, err)
	nodeSpace, nodeInodes, nodeDev, err := fileSystem(nodeDir)
	note(NodeFSAvailable, nodeSpace, err)
	note(NodeFSInodesFree, nodeInodes, err)
	imageSpace, imageInodes, imageDev, err := fileSystem(imageDir)
	note(ImageFSAvailable, imageSpace, err)
	note(ImageFSInodesFree, imageInodes, err)
	return o, nodeDev != imageDev, errors.Join(errs...)
}

// memory is what the kubelet counts: what is not in the working set, to which
// file pages that were not used for a while do not belong.
func (m Machine) memory() (Observation, error) {
	info, err := readPairs(m.proc("meminfo"))
	if err != nil {
		return Observation{}, err
	}
	total := info["MemTotal:"] << 10
	if total == 0 {
		return Observation{}, errors.New("meminfo has no MemTotal")
	}
	if set, err := workingSet(m.cgroups("memory"), false); err == nil {
		return Observation{Available: max(0, total-set), Capacity: total}, nil
	}
	return Observation{Available: min(total, (info["MemFree:"]+info["Inactive(file):"])<<10), Capacity: total}, nil
}

func (m Machine) processes() (Observation, error) {
	limit, err := readNumber(m.proc("sys/kernel/pid_max"))
	if err != nil {
		return Observation{}, err
	}
	if threads, err := readNumber(m.proc("sys/kernel/threads-max")); err == nil {
		limit = min(limit, threads)
	}
	load, err := os.ReadFile(m.proc("loadavg"))
	if err != nil {
		return Observation{}, err
	}
	fields := strings.Fields(string(load))
	if len(fields) < 4 {
		return Observation{}, fmt.Errorf("loadavg %q is not as expected", load)
	}
	_, all, _ := strings.Cut(fields[3], "/")
	running, err := strconv.ParseInt(all, 10, 64)
	if err != nil {
		return Observation{}, fmt.Errorf("loadavg %q is not as expected", load)
	}
	return Observation{Available: max(0, limit-running), Capacity: limit}, nil
}

// fileSystem measures the file system of a directory, or of the nearest one
// above it that is there. Some count no inodes.
func fileSystem(dir string) (space, nodes Observation, device uint64, err error) {
	var info syscall.Stat_t
	for err = syscall.Stat(dir, &info); errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir; err = syscall.Stat(dir, &info) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return space, nodes, 0, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return space, nodes, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := int64(s.Bsize)
	return Observation{Available: int64(s.Bavail) * block, Capacity: int64(s.Blocks) * block},
		Observation{Available: int64(s.Ffree), Capacity: int64(s.Files)}, uint64(info.Dev), nil
}

// Storage is how large the file system of a directory is, in bytes.
func Storage(dir string) (int64, error) {
	space, _, _, err := fileSystem(dir)
	return space.Capacity, err
}

// CgroupMemory is the working set of a cgroup, in bytes; 0 if it is gone.
func (m Machine) CgroupMemory(path string) int64 {
	set, err := workingSet(m.cgroups(filepath.Join("memory", path)), true)
	if err != nil {
		set, err = workingSet(m.cgroups(path), true)
	}
	if err != nil {
		return 0
	}
	return set
}

// CgroupProcesses is how many processes and threads a cgroup has.
func (m Machine) CgroupProcesses(path string) int64 {
	n, err := readNumber(m.cgroups(filepath.Join("pids", path, "pids.current")))
	if err != nil {
		n, _ = readNumber(m.cgroups(filepath.Join(path, "pids.current")))
	}
	return n
}

// CgroupForksRefused counts how often a cgroup was refused another process or
// thread because it had as many as it may.
func (m Machine) CgroupForksRefused(path string) int64 {
	events, err := readPairs(m.cgroups(filepath.Join("pids", path, "pids.events")))
	if err != nil {
		events, _ = readPairs(m.cgroups(filepath.Join(path, "pids.events")))
	}
	return events["max"]
}

// workingSet reads a cgroup of version 1 or, if that may be, 2.
func workingSet(dir string, unified bool) (int64, error) {
	usage, err := readNumber(filepath.Join(dir, "memory.usage_in_bytes"))
	inactive := "total_inactive_file"
	if err != nil && unified {
		usage, err = readNumber(filepath.Join(dir, "memory.current"))
		inactive = "inactive_file"
	}
	if err != nil {
		return 0, err
	}
	stat, err := readPairs(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, err
	}
	return max(0, usage-stat[inactive]), nil
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// readPairs reads lines of a name and a number; what follows is left out.
func readPairs(path string) (map[string]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pairs := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			pairs[fields[0]] = n
		}
	}
	return pairs, nil
}

// Tree is what the files below a directory take on its file system, each
// counted once. What goes away meanwhile is left out. A directory that is not
// there takes nothing.
func Tree(ctx context.Context, dir string) (Disk, error) {
	var sum Disk
	seen := map[uint64]bool{} // files with several names
	var device uint64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		switch {
		case path == dir:
			device = uint64(stat.Dev)
		case uint64(stat.Dev) != device && entry.IsDir():
			return filepath.SkipDir // something is mounted there
		case stat.Nlink > 1 && !entry.IsDir():
			if seen[stat.Ino] {
				return nil
			}
			seen[stat.Ino] = true
		}
		sum.Bytes += stat.Blocks * 512
		sum.Inodes++
		return nil
	})
	if err != nil {
		return Disk{}, fmt.Errorf("disk usage of %s: %w", dir, err)
	}
	return sum, nil
}
