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
// processes of their own, and rarely: a call to the kernel may wait for ever.
// The zero value is ready.
type claims struct {
	mu     sync.Mutex
	last   map[string]measured // of servers, by path
	asking map[string]bool     // those whose process has not ended
}

type measured struct {
	at    time.Time
	fs    FileSystem
	known bool
}

// get measures a volume; ok is false when it cannot be. Of a server's it knows
// what ask was told.
func (c *claims) get(v Volume, now time.Time) (fs FileSystem, ok bool) {
	if !v.Remote {
		fs, err := fileSystem(v.Path)
		return fs, err == nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.last[v.Path]
	return m.fs, m.known && now.Sub(m.at) < 2*remoteAge
}

// ask measures the servers' volumes that were not within a minute, all at once.
// It waits no longer than the slowest may take, nor than ctx.
func (c *claims) ask(ctx context.Context, pods []Pod, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, remoteTime)
	defer cancel()
	var told []<-chan struct{}
	for _, p := range pods {
		for _, v := range p.Volumes {
			if v.Remote && v.FileSystem {
				told = append(told, c.measure(v.Path, now))
			}
		}
	}
	for _, done := range told {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}

// measure asks a server unless it is being asked, or was within a minute. The
// channel is closed when it has answered: never, if its process cannot be
// killed.
func (c *claims) measure(path string, now time.Time) <-chan struct{} {
	done := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, known := c.last[path]; c.asking[path] || known && now.Sub(m.at) < remoteAge {
		close(done)
		return done
	}
	if c.last == nil {
		c.last, c.asking = map[string]measured{}, map[string]bool{}
	}
	c.asking[path] = true
	go func() {
		defer close(done)
		fs, err := remoteFileSystem(path)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.asking, path)
		c.last[path] = measured{now, fs, err == nil}
	}()
	return done
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

func remoteFileSystem(path string) (FileSystem, error) {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
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
	pods := m.collector.cfg.Pods()
	m.collector.claims.ask(context.Background(), pods, now.Time)
	for _, p := range pods {
		for _, v := range p.Volumes {
			name := p.Namespace + "/" + v.Claim
			if v.Claim == "" || !v.FileSystem || seen[name] {
				continue
			}
			seen[name] = true
			fs, ok := m.collector.claims.get(v, now.Time)
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
