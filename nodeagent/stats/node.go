package stats

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const imagesName = "images"

func (c *Collector) read(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(c.cfg.Proc, name))
	return string(data), err
}

func (c *Collector) stat() (busy uint64, booted int64, err error) {
	text, err := c.read("stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(text)
}

// self is what the agent's own process used, in ns, and uses, in bytes.
func (c *Collector) self() (cpu, memory uint64, err error) {
	text, err := c.read("self/stat")
	if err != nil {
		return 0, 0, err
	}
	cpu, pages, err := parseProcess(text)
	return cpu, pages * uint64(os.Getpagesize()), err
}

func (c *Collector) nodeLocked(ctx context.Context) (*statsapi.NodeStats, error) {
	busy, booted, err := c.stat()
	if err != nil {
		return nil, err
	}
	text, err := c.read("meminfo")
	if err != nil {
		return nil, err
	}
	memory, err := parseMeminfo(text)
	if err != nil {
		return nil, err
	}
	own, err := fileSystem(c.cfg.Dir)
	if err != nil {
		return nil, err
	}
	now := metav1.Now()
	n := &statsapi.NodeStats{
		NodeName: c.cfg.Node, StartTime: metav1.Unix(booted, 0),
		CPU: c.cpu(nodeName, &busy), Memory: c.nodeMemory(memory), Network: c.nodeNetwork(),
		Fs: fsStats(now, own, less(own.Capacity, own.Available), less(own.Inodes, own.InodesFree)), Rlimit: c.processes(now),
	}
	used := less(memory.swapTotal, memory.swapFree)
	n.Swap = &statsapi.SwapStats{Time: now, SwapUsageBytes: &used, SwapAvailableBytes: &memory.swapFree}
	n.Runtime = &statsapi.RuntimeStats{ImageFs: c.imageFsLocked(ctx, now)}
	n.Runtime.ContainerFs = n.Runtime.ImageFs
	n.SystemContainers = c.system(now, booted)
	return n, nil
}

// nodeMemory is what the kubelet calls so: all that is not free, and of that
// all but what the kernel would give back first.
func (c *Collector) nodeMemory(m meminfo) *statsapi.MemoryStats {
	usage := less(m.total, m.free)
	working := less(usage, m.inactiveFile)
	available := less(m.total, working)
	stats := &statsapi.MemoryStats{Time: metav1.Now(), UsageBytes: &usage, WorkingSetBytes: &working, AvailableBytes: &available, RSSBytes: &m.anon}
	if text, err := c.read("vmstat"); err == nil {
		pairs := parsePairs(text)
		faults, major := pairs["pgfault"], pairs["pgmajfault"]
		stats.PageFaults, stats.MajorPageFaults = &faults, &major
	}
	return stats
}

func (c *Collector) nodeNetwork() *statsapi.NetworkStats {
	dev, err := c.read("1/net/dev")
	if err != nil {
		return nil
	}
	route, _ := c.read("1/net/route")
	return networkStats(parseInterfaces(dev), defaultInterface(route))
}

func (c *Collector) processes(now metav1.Time) *statsapi.RlimitStats {
	limits := &statsapi.RlimitStats{Time: now}
	if text, err := c.read("loadavg"); err == nil {
		if n, err := parseLoad(text); err == nil {
			limits.NumOfRunningProcesses = &n
		}
	}
	if n := readNumber(filepath.Join(c.cfg.Proc, "sys/kernel/pid_max")); n != nil {
		most := int64(*n)
		limits.MaxPID = &most
	}
	return limits
}

func (c *Collector) imageFsLocked(ctx context.Context, now metav1.Time) *statsapi.FsStats {
	usage, known := c.sizes.get(imagesName, now.Time, func() (runtime.DiskUsage, error) {
		path, usage, err := c.cfg.Disk.ImageDisk(ctx)
		if err == nil {
			c.noteImageDirLocked(path)
		}
		return usage, err
	})
	if !known {
		return nil
	}
	fs, err := fileSystem(c.imageDir)
	if err != nil {
		return nil
	}
	return fsStats(now, fs, uint64(usage.Bytes), uint64(usage.Inodes))
}

// noteImageDirLocked notes where the images are: the path that containerd names, or,
// where that is not on this machine, the node's own.
func (c *Collector) noteImageDirLocked(path string) {
	c.imageDir = path
	if _, err := os.Stat(path); err != nil {
		c.imageDir = c.cfg.Dir
	}
}

// system are the agent itself and all pods together.
func (c *Collector) system(now metav1.Time, booted int64) []statsapi.ContainerStats {
	var list []statsapi.ContainerStats
	if cpu, memory, err := c.self(); err == nil {
		list = append(list, statsapi.ContainerStats{
			Name: statsapi.SystemContainerKubelet, StartTime: metav1.NewTime(started), CPU: c.cpu(agentName, &cpu),
			Memory: &statsapi.MemoryStats{Time: now, UsageBytes: &memory, WorkingSetBytes: &memory, RSSBytes: &memory},
		})
	}
	usage := c.cgroups.Read(c.cfg.Cgroup)
	return append(list, statsapi.ContainerStats{
		Name: statsapi.SystemContainerPods, StartTime: metav1.Unix(booted, 0),
		CPU: c.cpu(podsName, usage.CPU), Memory: memoryStats(usage.Memory, now),
	})
}

var started = time.Now()

// Machine is what a node has.
type Machine struct {
	Cores          int
	Memory, Swap   uint64 // bytes
	Kernel, BootID string
	Images, Node   FileSystem
	MaxProcesses   uint64
}

// Machine describes the machine.
func (c *Collector) Machine(ctx context.Context) (Machine, error) {
	text, err := c.read("meminfo")
	if err != nil {
		return Machine{}, err
	}
	memory, err := parseMeminfo(text)
	if err != nil {
		return Machine{}, err
	}
	m := Machine{Memory: memory.total, Swap: memory.swapTotal, Kernel: c.line("sys/kernel/osrelease"), BootID: c.line("sys/kernel/random/boot_id")}
	if text, err = c.read("stat"); err != nil {
		return Machine{}, err
	}
	m.Cores = countCPUs(text)
	m.MaxProcesses, _ = strconv.ParseUint(c.line("sys/kernel/pid_max"), 10, 64)
	if m.Node, err = fileSystem(c.cfg.Dir); err != nil {
		return Machine{}, err
	}
	path, _, err := c.cfg.Disk.ImageDisk(ctx)
	if err != nil {
		return Machine{}, err
	}
	m.Images, err = fileSystem(path)
	return m, err
}

// line is the first line of a file; empty if it cannot be read.
func (c *Collector) line(name string) string {
	text, _ := c.read(name)
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// countCPUs is how many CPUs the text of /proc/stat tells of. Pure.
func countCPUs(text string) (n int) {
	for line := range strings.Lines(text) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "cpu") && name != "cpu" {
			n++
		}
	}
	return n
}
