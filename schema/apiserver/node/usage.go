package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// What a node's agent may take to say what its pods use, how many are asked at
// once, and how long an answer is good for: `kubectl top` asks for all.
const (
	summaryTime  = 3 * time.Second
	summaryLimit = 16 << 20
	askedAtOnce  = 16
)

// window is over how long the agents measure.
const window = 10 * time.Second

// summary asks a node's agent what is used there.
func (c *Config) summary(ctx context.Context, node string) (*statsv1alpha1.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, summaryTime)
	defer cancel()
	base, transport, err := c.reach(ctx, node)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at(base, "/stats/summary", nil).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("usage of node %s: %w", node, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("usage of node %s: %w", node, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("usage of node %s: %s", node, resp.Status)
	}
	out := &statsv1alpha1.Summary{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, summaryLimit)).Decode(out); err != nil {
		return nil, fmt.Errorf("usage of node %s: %w", node, err)
	}
	return out, nil
}

// summaries asks many nodes at once. A node that does not answer is missing, as
// in Kubernetes' metrics server.
func (c *Config) summaries(ctx context.Context, nodes []string) map[string]*statsv1alpha1.Summary {
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		out  = map[string]*statsv1alpha1.Summary{}
		room = make(chan struct{}, askedAtOnce)
	)
	for _, node := range nodes {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			s, err := c.summary(ctx, node)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[node] = s
		})
	}
	wg.Wait()
	return out
}

// usage is what CPU and memory statistics mean as resources; false if they are
// not there yet.
func usage(cpu *statsv1alpha1.CPUStats, memory *statsv1alpha1.MemoryStats) (corev1.ResourceList, metav1.Time, bool) {
	if cpu == nil || cpu.UsageNanoCores == nil || memory == nil || memory.WorkingSetBytes == nil {
		return nil, metav1.Time{}, false
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI),
	}, cpu.Time, true
}
