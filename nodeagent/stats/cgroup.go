package stats

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Cgroups are the machine's cgroup hierarchies: one with version 2, one for
// each group of controllers with version 1.
type Cgroups struct {
	unified string            // where version 2 is mounted, if its controllers are there
	mounts  map[string]string // version 1: by controller
}

// ParseCgroups finds the hierarchies in the text of /proc/self/mountinfo. With
// both versions mounted, the controllers are those of version 1. Pure.
func ParseCgroups(mountinfo string) (Cgroups, error) {
	c := Cgroups{mounts: map[string]string{}}
	second := ""
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		switch right[0] {
		case "cgroup2":
			if second == "" {
				second = left[4]
			}
		case "cgroup":
			for controller := range strings.SplitSeq(right[2], ",") {
				if c.mounts[controller] == "" && controller != "rw" && controller != "ro" {
					c.mounts[controller] = left[4]
				}
			}
		}
	}
	if c.mounts["memory"] == "" && c.mounts["cpuacct"] == "" {
		c.unified = second
	}
	if c.unified == "" && len(c.mounts) == 0 {
		return Cgroups{}, errors.New("no cgroup file system is mounted")
	}
	return c, nil
}

// Usage is what a cgroup has used, and uses. A nil field is not measured.
type Usage struct {
	CPU       *uint64 // ns since the cgroup was made
	Memory    *Memory
	Processes *uint64
}

// Memory is in bytes.
type Memory struct {
	Usage, WorkingSet, RSS uint64
	Limit                  *uint64 // nil: none
	Swap                   *uint64
	SwapLimit              *uint64 // nil: none is known
	Faults, MajorFaults    uint64
}

// Read measures a cgroup by its path below the hierarchies' roots. What the
// kernel does not tell, or a cgroup that is gone, is left nil.
func (c Cgroups) Read(path string) Usage {
	if c.unified != "" {
		return readUnified(filepath.Join(c.unified, path))
	}
	return c.readFirst(path)
}

func (c Cgroups) readFirst(path string) Usage {
	var u Usage
	if dir := c.mounts["cpuacct"]; dir != "" {
		u.CPU = readNumber(filepath.Join(dir, path, "cpuacct.usage"))
	}
	if dir := c.mounts["pids"]; dir != "" {
		u.Processes = readNumber(filepath.Join(dir, path, "pids.current"))
	}
	dir := c.mounts["memory"]
	if dir == "" {
		return u
	}
	stat, err := os.ReadFile(filepath.Join(dir, path, "memory.stat"))
	usage := readNumber(filepath.Join(dir, path, "memory.usage_in_bytes"))
	if err == nil && usage != nil {
		u.Memory = firstMemory(*usage, parsePairs(string(stat)))
	}
	return u
}

// unlimited is more than any machine has: version 1 has no other word for no
// limit than the largest number of pages.
const unlimited = 1 << 60

// firstMemory reads version 1's statistics. Pure.
func firstMemory(usage uint64, stat map[string]uint64) *Memory {
	m := &Memory{
		Usage: usage, WorkingSet: less(usage, stat["total_inactive_file"]), RSS: stat["total_rss"],
		Faults: stat["total_pgfault"], MajorFaults: stat["total_pgmajfault"],
	}
	if limit, ok := stat["hierarchical_memory_limit"]; ok && limit < unlimited {
		m.Limit = &limit
	}
	if swap, ok := stat["total_swap"]; ok {
		m.Swap = &swap
	}
	if both, ok := stat["hierarchical_memsw_limit"]; ok && both < unlimited && m.Limit != nil {
		limit := less(both, *m.Limit)
		m.SwapLimit = &limit
	}
	return m
}

func readUnified(dir string) Usage {
	var u Usage
	if text, err := os.ReadFile(filepath.Join(dir, "cpu.stat")); err == nil {
		if us, ok := parsePairs(string(text))["usage_usec"]; ok {
			ns := us * 1000
			u.CPU = &ns
		}
	}
	u.Processes = readNumber(filepath.Join(dir, "pids.current"))
	stat, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	usage := readNumber(filepath.Join(dir, "memory.current"))
	if err == nil && usage != nil {
		u.Memory = unifiedMemory(*usage, parsePairs(string(stat)))
		u.Memory.Limit = readNumber(filepath.Join(dir, "memory.max")) // "max" is none
		u.Memory.Swap = readNumber(filepath.Join(dir, "memory.swap.current"))
		u.Memory.SwapLimit = readNumber(filepath.Join(dir, "memory.swap.max"))
	}
	return u
}

// unifiedMemory reads version 2's statistics. Pure.
func unifiedMemory(usage uint64, stat map[string]uint64) *Memory {
	return &Memory{
		Usage: usage, WorkingSet: less(usage, stat["inactive_file"]), RSS: stat["anon"],
		Faults: stat["pgfault"], MajorFaults: stat["pgmajfault"],
	}
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// parsePairs reads lines of a name and a number. Pure.
func parsePairs(text string) map[string]uint64 {
	pairs := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, number, ok := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if ok && err == nil {
			pairs[name] = n
		}
	}
	return pairs
}

// readNumber reads a file that holds one number; nil if it does not.
func readNumber(path string) *uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// String names the hierarchies, for logs.
func (c Cgroups) String() string {
	if c.unified != "" {
		return "version 2 at " + c.unified
	}
	var names []string
	for controller, dir := range c.mounts {
		names = append(names, controller+"="+dir)
	}
	slices.Sort(names)
	return fmt.Sprintf("version 1: %s", strings.Join(names, " "))
}
