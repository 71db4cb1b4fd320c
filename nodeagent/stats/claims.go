package stats

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// How long a server's file system counts as it was measured, and how long the
// server may take to tell.
const (
	remoteAge  = time.Minute
	remoteTime = 2 * time.Second
)

// stats are a file system's, of which all that is in use counts.
func (fs FileSystem) stats(now metav1.Time) *statsapi.FsStats {
	return fsStats(now, fs, less(fs.Capacity, fs.Free), less(fs.Inodes, fs.InodesFree))
}

// claims measures volumes that are file systems. Those of servers are asked by
// a process of its own, and rarely: a call to the kernel may wait for ever. The
// zero value is ready.
type claims struct {
	mu   sync.Mutex
	last map[string]measured // of servers, by path
}

type measured struct {
	at    time.Time
	fs    FileSystem
	known bool
}

// get measures a volume; ok is false when it cannot be.
func (c *claims) get(ctx context.Context, v Volume, now time.Time) (fs FileSystem, ok bool) {
	if !v.Remote {
		fs, err := fileSystem(v.Path)
		return fs, err == nil
	}
	c.mu.Lock()
	old, known := c.last[v.Path]
	c.mu.Unlock()
	if known && now.Sub(old.at) < remoteAge {
		return old.fs, old.known
	}
	fs, err := remoteFileSystem(ctx, v.Path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]measured{}
	}
	c.last[v.Path] = measured{now, fs, err == nil}
	return fs, err == nil
}

// keep forgets all but some paths.
func (c *claims) keep(paths map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.last {
		if !paths[path] {
			delete(c.last, path)
		}
	}
}

func remoteFileSystem(ctx context.Context, path string) (FileSystem, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "stat", "-f", "-c", "%S %b %a %f %c %d", path)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return FileSystem{}, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	return parseStatFS(string(out))
}

// parseStatFS reads the size of a block, the blocks, those available and free,
// the inodes and those free. Pure.
func parseStatFS(text string) (FileSystem, error) {
	var block uint64
	var fs FileSystem
	if _, err := fmt.Sscan(text, &block, &fs.Capacity, &fs.Available, &fs.Free, &fs.Inodes, &fs.InodesFree); err != nil {
		return FileSystem{}, fmt.Errorf("read %q: %w", text, err)
	}
	fs.Capacity, fs.Available, fs.Free = fs.Capacity*block, fs.Available*block, fs.Free*block
	return fs, nil
}

// claimMetrics are the kubelet's of volumes that pods claim.
type claimMetrics struct {
	collector *Collector
	values    []claimMetric
}

type claimMetric struct {
	desc *prometheus.Desc
	of   func(*statsapi.FsStats) uint64
}

// ClaimMetrics are the kubelet's kubelet_volume_stats_…, which are measured
// when they are gathered: those of local volumes and of servers that answer.
func (c *Collector) ClaimMetrics() prometheus.Collector {
	m := &claimMetrics{collector: c}
	for _, metric := range []struct {
		name, help string
		of         func(*statsapi.FsStats) uint64
	}{
		{"capacity_bytes", "Capacity in bytes of the volume", func(s *statsapi.FsStats) uint64 { return *s.CapacityBytes }},
		{"available_bytes", "Number of available bytes in the volume", func(s *statsapi.FsStats) uint64 { return *s.AvailableBytes }},
		{"used_bytes", "Number of used bytes in the volume", func(s *statsapi.FsStats) uint64 { return *s.UsedBytes }},
		{"inodes", "Maximum number of inodes in the volume", func(s *statsapi.FsStats) uint64 { return *s.Inodes }},
		{"inodes_free", "Number of free inodes in the volume", func(s *statsapi.FsStats) uint64 { return *s.InodesFree }},
		{"inodes_used", "Number of used inodes in the volume", func(s *statsapi.FsStats) uint64 { return *s.InodesUsed }},
	} {
		desc := prometheus.NewDesc("kubelet_volume_stats_"+metric.name, metric.help, []string{"namespace", "persistentvolumeclaim"}, nil)
		m.values = append(m.values, claimMetric{desc, metric.of})
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *claimMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, v := range m.values {
		to <- v.desc
	}
}

// Collect implements prometheus.Collector. A claim that several pods have
// counts once.
func (m *claimMetrics) Collect(to chan<- prometheus.Metric) {
	now := metav1.Now()
	seen := map[string]bool{}
	for _, p := range m.collector.cfg.Pods() {
		for _, v := range p.Volumes {
			name := p.Namespace + "/" + v.Claim
			if v.Claim == "" || !v.FileSystem || seen[name] {
				continue
			}
			seen[name] = true
			fs, ok := m.collector.claims.get(context.Background(), v, now.Time)
			if !ok {
				continue
			}
			stats := fs.stats(now)
			for _, value := range m.values {
				to <- prometheus.MustNewConstMetric(value.desc, prometheus.GaugeValue, float64(value.of(stats)), p.Namespace, v.Claim)
			}
		}
	}
}
