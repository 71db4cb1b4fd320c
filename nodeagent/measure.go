package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Meter measures what a node and its pods use. Without one of its own, the
// agent measures the machine that it runs on.
type Meter interface {
	// Observe measures memory, process IDs, and the file systems of volumes
	// and logs and of images; separate says that those are two. What cannot be
	// measured is left out, and is the error.
	Observe(ctx context.Context) (o pressure.Observations, separate bool, err error)
	// Usage measures a pod, of which these are the containers. It walks files,
	// and takes as long as there are many.
	Usage(ctx context.Context, pod *corev1.Pod, containers []runtime.Status) (*pressure.Usage, error)
	// ForksRefused counts how often a pod was refused another process because
	// it had as many as it may.
	ForksRefused(podUID string) int64
}

// meter is the machine's own.
type meter struct {
	machine pressure.Machine
	agent   *agent
	images  string // where they are; "" until the runtime said so
}

func (m *meter) Observe(ctx context.Context) (pressure.Observations, bool, error) {
	volumes := filepath.Dir(m.agent.cfg.Volumes.Files(""))
	if m.images == "" {
		path, _, err := m.agent.cfg.Runtime.ImageDisk(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("find the images' file system: %w", err)
		}
		m.images = path
	}
	return m.machine.Observe(volumes, m.images)
}

func (m *meter) ForksRefused(podUID string) int64 {
	return m.machine.CgroupForksRefused(m.agent.machine.podCgroup(podUID))
}

func (m *meter) Usage(ctx context.Context, pod *corev1.Pod, containers []runtime.Status) (*pressure.Usage, error) {
	uid := string(pod.UID)
	cgroup := m.agent.machine.podCgroup(uid)
	usage := &pressure.Usage{
		Memory: m.machine.CgroupMemory(cgroup), Processes: m.machine.CgroupProcesses(cgroup),
		Containers: map[string]pressure.ContainerUsage{}, Volumes: map[string]pressure.Disk{},
	}
	for _, c := range containers {
		used := usage.Containers[c.Name]
		if isUp(&c) {
			used.Memory = m.machine.CgroupMemory(filepath.Join(cgroup, c.ID))
		}
		disk, err := m.agent.cfg.Runtime.DiskUsage(ctx, c.ID)
		if err != nil && !errors.Is(err, runtime.ErrNotFound) {
			return nil, err
		}
		used.Rootfs.Bytes += disk.Bytes
		used.Rootfs.Inodes += disk.Inodes
		if size := m.agent.cfg.LogSize; size != nil {
			used.Logs.Bytes, used.Logs.Inodes = size(logs.Container{ID: c.ID, UID: uid, Namespace: pod.Namespace, Pod: pod.Name, Name: c.Name, Attempt: c.Attempt})
		}
		usage.Containers[c.Name] = used
	}
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.Medium == corev1.StorageMediumMemory {
			continue
		}
		disk, err := pressure.Tree(ctx, m.agent.cfg.Volumes.Dir(uid, v.Name))
		if err != nil {
			return nil, err
		}
		usage.Volumes[v.Name] = disk
	}
	return usage, nil
}
