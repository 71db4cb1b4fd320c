package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// setting is one file of a cgroup and what it is to say.
type setting struct{ controller, file, value string }

// settings turns resources into files of a cgroup, of either version. Pure.
func settings(r rt.Resources, unified, swap bool) []setting {
	if unified {
		return unifiedSettings(r)
	}
	var out []setting
	if r.CPUShares != 0 {
		out = append(out, setting{"cpu", "cpu.shares", strconv.FormatUint(r.CPUShares, 10)})
	}
	if r.CPUQuota != 0 {
		out = append(out, setting{"cpu", "cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10)}, setting{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10)})
	}
	if r.MemoryLimit != 0 {
		limit := strconv.FormatInt(r.MemoryLimit, 10)
		out = append(out, setting{"memory", "memory.limit_in_bytes", limit})
		if swap {
			out = append(out, setting{"memory", "memory.memsw.limit_in_bytes", limit})
		}
	}
	return append(out, pidSettings(r)...)
}

func unifiedSettings(r rt.Resources) []setting {
	var out []setting
	if r.CPUShares != 0 {
		out = append(out, setting{"cpu", "cpu.weight", strconv.FormatUint(weight(r.CPUShares), 10)})
	}
	if r.CPUQuota != 0 {
		out = append(out, setting{"cpu", "cpu.max", fmt.Sprintf("%d %d", r.CPUQuota, r.CPUPeriod)})
	}
	if r.MemoryLimit != 0 {
		out = append(out, setting{"memory", "memory.max", strconv.FormatInt(r.MemoryLimit, 10)}, setting{"memory", "memory.swap.max", "0"})
	}
	return append(out, pidSettings(r)...)
}

// pidSettings are the same in both versions.
func pidSettings(r rt.Resources) []setting {
	if r.PIDs == 0 {
		return nil
	}
	return []setting{{"pids", "pids.max", strconv.FormatInt(r.PIDs, 10)}}
}

// weight turns version 1's CPU shares (2 to 262144) into version 2's weight (1
// to 10000), as OCI runtimes do.
func weight(shares uint64) uint64 { return 1 + ((shares-2)*9999)/262142 }

// shape makes a cgroup with settings for all that runs below it. What has the
// same already is left alone.
func (c cgroups) shape(path string, r rt.Resources, swap bool) error {
	for _, s := range settings(r, c.unified, swap) {
		root := c.mounts[0]
		if !c.unified {
			root = c.controllers[s.controller]
		}
		if root == "" {
			continue // the machine does without
		}
		dir := filepath.Join(root, path)
		if err := c.make(root, path); err != nil {
			return err
		}
		if err := set(filepath.Join(dir, s.file), s.value); err != nil {
			return err
		}
	}
	return nil
}

// make makes a cgroup. With version 2 the controllers are handed down on the
// way.
func (c cgroups) make(root, path string) error {
	if !c.unified {
		return os.MkdirAll(filepath.Join(root, path), 0o755)
	}
	dir := root
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("hand controllers down in %s: %w", dir, err)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

func set(file, value string) error {
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	err := os.WriteFile(file, []byte(value), 0o644)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // this kernel does without
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", file, err)
	}
	return nil
}
