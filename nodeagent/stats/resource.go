package stats

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// metric is one of the kubelet's /metrics/resource.
type metric struct {
	name, help, kind string
	value            func(cpu *statsapi.CPUStats, memory *statsapi.MemoryStats, swap *statsapi.SwapStats) (*float64, metav1.Time)
}

func cpuSeconds(cpu *statsapi.CPUStats, _ *statsapi.MemoryStats, _ *statsapi.SwapStats) (*float64, metav1.Time) {
	if cpu == nil || cpu.UsageCoreNanoSeconds == nil {
		return nil, metav1.Time{}
	}
	seconds := float64(*cpu.UsageCoreNanoSeconds) / 1e9
	return &seconds, cpu.Time
}

func workingSet(_ *statsapi.CPUStats, memory *statsapi.MemoryStats, _ *statsapi.SwapStats) (*float64, metav1.Time) {
	if memory == nil || memory.WorkingSetBytes == nil {
		return nil, metav1.Time{}
	}
	bytes := float64(*memory.WorkingSetBytes)
	return &bytes, memory.Time
}

func swapUsage(_ *statsapi.CPUStats, _ *statsapi.MemoryStats, swap *statsapi.SwapStats) (*float64, metav1.Time) {
	if swap == nil || swap.SwapUsageBytes == nil {
		return nil, metav1.Time{}
	}
	bytes := float64(*swap.SwapUsageBytes)
	return &bytes, swap.Time
}

// metricsOf are the three of a level: node, pod or container.
func metricsOf(level string) []metric {
	return []metric{
		{level + "_cpu_usage_seconds_total", "Cumulative cpu time consumed by the " + level + " in core-seconds", "counter", cpuSeconds},
		{level + "_memory_working_set_bytes", "Current working set of the " + level + " in bytes", "gauge", workingSet},
		{level + "_swap_usage_bytes", "Current swap usage of the " + level + " in bytes", "gauge", swapUsage},
	}
}

// WriteResourceMetrics writes the kubelet's /metrics/resource, in Prometheus'
// text format.
func (c *Collector) WriteResourceMetrics(ctx context.Context, to io.Writer) error {
	summary, err := c.Summary(ctx)
	if err != nil {
		return err
	}
	return writeResources(to, summary)
}

func writeResources(to io.Writer, s *statsapi.Summary) error {
	w := bufio.NewWriter(to)
	for _, m := range metricsOf("node") {
		m.head(w)
		m.line(w, "", s.Node.CPU, s.Node.Memory, s.Node.Swap)
	}
	for _, m := range metricsOf("pod") {
		m.head(w)
		for _, p := range s.Pods {
			m.line(w, fmt.Sprintf("{namespace=%q,pod=%q}", p.PodRef.Namespace, p.PodRef.Name), p.CPU, p.Memory, p.Swap)
		}
	}
	for _, m := range metricsOf("container") {
		m.head(w)
		eachContainer(s, func(labels string, c statsapi.ContainerStats) { m.line(w, labels, c.CPU, c.Memory, c.Swap) })
	}
	start := metric{name: "container_start_time_seconds", help: "Start time of the container since unix epoch in seconds", kind: "gauge"}
	start.head(w)
	eachContainer(s, func(labels string, c statsapi.ContainerStats) {
		start.sample(w, labels, float64(c.StartTime.UnixNano())/1e9, metav1.Time{})
	})
	failed := metric{name: "resource_scrape_error", help: "1 if there was an error while getting container metrics, 0 otherwise", kind: "gauge"}
	failed.head(w)
	failed.sample(w, "", 0, metav1.Time{})
	return w.Flush()
}

func eachContainer(s *statsapi.Summary, do func(labels string, c statsapi.ContainerStats)) {
	for _, p := range s.Pods {
		for _, c := range p.Containers {
			do(fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", c.Name, p.PodRef.Namespace, p.PodRef.Name), c)
		}
	}
}

// head and sample write to a bufio.Writer, which keeps the first error.
func (m metric) head(w *bufio.Writer) {
	fmt.Fprintf(w, "# HELP %s [STABLE] %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
}

func (m metric) line(w *bufio.Writer, labels string, cpu *statsapi.CPUStats, memory *statsapi.MemoryStats, swap *statsapi.SwapStats) {
	if value, at := m.value(cpu, memory, swap); value != nil {
		m.sample(w, labels, *value, at)
	}
}

func (m metric) sample(w *bufio.Writer, labels string, value float64, at metav1.Time) {
	fmt.Fprintf(w, "%s%s %s", m.name, labels, strconv.FormatFloat(value, 'g', -1, 64))
	if !at.IsZero() {
		fmt.Fprintf(w, " %d", at.UnixMilli())
	}
	_ = w.WriteByte('\n')
}
