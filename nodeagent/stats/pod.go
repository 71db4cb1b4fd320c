package stats

import (
	"context"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func rootName(c Container) string       { return "root " + c.ID }
func volumeName(p Pod, v Volume) string { return "volume " + p.UID + " " + v.Name }

// pod measures a pod. Sizes of files are of the node's file system, but for
// what is written to a container's root, which is where images are.
func (c *Collector) pod(ctx context.Context, p Pod, node *statsapi.NodeStats) statsapi.PodStats {
	now := metav1.Now()
	usage := c.cgroups.Read(p.Cgroup)
	stats := statsapi.PodStats{
		PodRef:     statsapi.PodReference{Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		StartTime:  metav1.NewTime(p.Started),
		CPU:        c.cpu(p.UID, usage.CPU),
		Memory:     memoryStats(usage.Memory, now),
		Swap:       swapStats(usage.Memory, now),
		Containers: []statsapi.ContainerStats{},
	}
	if usage.Processes != nil {
		stats.ProcessStats = &statsapi.ProcessStats{ProcessCount: usage.Processes}
	}
	if !p.HostNetwork {
		stats.Network = c.podNetwork(p)
	}
	var ephemeral runtime.DiskUsage
	for _, container := range p.Containers {
		s, disk := c.container(ctx, p, container, node, now)
		stats.Containers = append(stats.Containers, s)
		ephemeral.Bytes, ephemeral.Inodes = ephemeral.Bytes+disk.Bytes, ephemeral.Inodes+disk.Inodes
	}
	for _, v := range p.Volumes {
		s, disk := c.volume(ctx, p, v, now)
		stats.VolumeStats = append(stats.VolumeStats, s)
		if v.Ephemeral {
			ephemeral.Bytes, ephemeral.Inodes = ephemeral.Bytes+disk.Bytes, ephemeral.Inodes+disk.Inodes
		}
	}
	stats.EphemeralStorage = within(node.Fs, ephemeral, now)
	return stats
}

// container returns a container's statistics, and what it takes of the node's
// ephemeral storage: its logs and what it wrote to its root.
func (c *Collector) container(ctx context.Context, p Pod, container Container, node *statsapi.NodeStats, now metav1.Time) (statsapi.ContainerStats, runtime.DiskUsage) {
	usage := c.cgroups.Read(container.Cgroup)
	root, known := c.sizes.get(rootName(container), now.Time, func() (runtime.DiskUsage, error) {
		return c.cfg.Disk.DiskUsage(ctx, container.ID)
	})
	var logs runtime.DiskUsage
	logs.Bytes, logs.Inodes = c.cfg.Logs(p, container)
	stats := statsapi.ContainerStats{
		Name: container.Name, StartTime: metav1.NewTime(container.Started),
		CPU: c.cpu(container.ID, usage.CPU), Memory: memoryStats(usage.Memory, now), Swap: swapStats(usage.Memory, now),
		Logs: within(node.Fs, logs, now),
	}
	if known && node.Runtime.ImageFs != nil {
		stats.Rootfs = within(node.Runtime.ImageFs, root, now)
	}
	return stats, runtime.DiskUsage{Bytes: root.Bytes + logs.Bytes, Inodes: root.Inodes + logs.Inodes}
}

func (c *Collector) volume(ctx context.Context, p Pod, v Volume, now metav1.Time) (statsapi.VolumeStats, runtime.DiskUsage) {
	stats := statsapi.VolumeStats{Name: v.Name}
	if v.Claim != "" {
		stats.PVCRef = &statsapi.PVCReference{Name: v.Claim, Namespace: p.Namespace}
	}
	if v.FileSystem {
		if fs, ok := c.claims.get(v, now.Time); ok {
			stats.FsStats = *fs.stats(now)
		}
		return stats, runtime.DiskUsage{}
	}
	usage, _ := c.sizes.get(volumeName(p, v), now.Time, func() (runtime.DiskUsage, error) { return tree(ctx, v.Path), ctx.Err() })
	if fs, err := fileSystem(v.Path); err == nil {
		stats.FsStats = *fsStats(now, fs, uint64(usage.Bytes), uint64(usage.Inodes))
	}
	return stats, usage
}

// podNetwork reads the counters through any of the pod's processes.
func (c *Collector) podNetwork(p Pod) *statsapi.NetworkStats {
	for _, container := range p.Containers {
		if container.PID == 0 {
			continue
		}
		if text, err := c.read(strconv.Itoa(container.PID) + "/net/dev"); err == nil {
			return networkStats(parseInterfaces(text), "eth0")
		}
	}
	return nil
}

// cpu is a counter and its rate.
func (c *Collector) cpu(name string, ns *uint64) *statsapi.CPUStats {
	if ns == nil {
		return nil
	}
	now := metav1.Now()
	return &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: ns, UsageNanoCores: c.rates.of(name, sample{now.Time, *ns})}
}

func memoryStats(m *Memory, now metav1.Time) *statsapi.MemoryStats {
	if m == nil {
		return nil
	}
	stats := &statsapi.MemoryStats{
		Time: now, UsageBytes: &m.Usage, WorkingSetBytes: &m.WorkingSet, RSSBytes: &m.RSS,
		PageFaults: &m.Faults, MajorPageFaults: &m.MajorFaults,
	}
	if m.Limit != nil {
		available := less(*m.Limit, m.WorkingSet)
		stats.AvailableBytes = &available
	}
	return stats
}

func swapStats(m *Memory, now metav1.Time) *statsapi.SwapStats {
	if m == nil || m.Swap == nil {
		return nil
	}
	stats := &statsapi.SwapStats{Time: now, SwapUsageBytes: m.Swap}
	if m.SwapLimit != nil {
		available := less(*m.SwapLimit, *m.Swap)
		stats.SwapAvailableBytes = &available
	}
	return stats
}

func networkStats(list []Interface, main string) *statsapi.NetworkStats {
	stats := &statsapi.NetworkStats{Time: metav1.Now()}
	for _, i := range list {
		one := statsapi.InterfaceStats{Name: i.Name, RxBytes: &i.RxBytes, RxErrors: &i.RxErrors, TxBytes: &i.TxBytes, TxErrors: &i.TxErrors}
		if i.Name == main {
			stats.InterfaceStats = one
		}
		stats.Interfaces = append(stats.Interfaces, one)
	}
	return stats
}

func fsStats(now metav1.Time, fs FileSystem, used, inodes uint64) *statsapi.FsStats {
	return &statsapi.FsStats{
		Time: now, CapacityBytes: &fs.Capacity, AvailableBytes: &fs.Available, UsedBytes: &used,
		Inodes: &fs.Inodes, InodesFree: &fs.InodesFree, InodesUsed: &inodes,
	}
}

// within is what something takes of a file system that was measured.
func within(fs *statsapi.FsStats, usage runtime.DiskUsage, now metav1.Time) *statsapi.FsStats {
	out := *fs
	used, inodes := uint64(usage.Bytes), uint64(usage.Inodes)
	out.Time, out.UsedBytes, out.InodesUsed = now, &used, &inodes
	return &out
}
