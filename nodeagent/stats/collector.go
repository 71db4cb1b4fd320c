package stats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Pod is a pod that is to be measured.
type Pod struct {
	UID, Namespace, Name string
	Started              time.Time
	Cgroup               string // path below the hierarchies' roots
	HostNetwork          bool
	Containers           []Container // that run
	Volumes              []Volume
}

// Container is a running container of a pod.
type Container struct {
	ID, Name string
	Attempt  int
	Cgroup   string
	PID      int // in whose namespaces the pod's network is
	Started  time.Time
}

// Volume is a volume of a pod whose content counts.
type Volume struct {
	Name, Path string
	Claim      string // of which it is, or ""
	Ephemeral  bool   // on the node's disk, and gone with the pod
	FileSystem bool   // a file system: what it has in use counts, not what lies at the path
	Remote     bool   // of a server, which may not answer
}

// Disk knows what containers and images take. runtime.Runtime does.
type Disk interface {
	DiskUsage(ctx context.Context, id string) (runtime.DiskUsage, error)
	ImageDisk(ctx context.Context) (path string, usage runtime.DiskUsage, err error)
}

// Config says what is measured.
type Config struct {
	// Node is the node's name.
	Node string
	// Dir is on the file system of the node's volumes and logs. Required.
	Dir string
	// Cgroup is the parent of the pods' cgroups. Required.
	Cgroup string
	// Pods returns what is there now. Required.
	Pods func() []Pod
	// Disk is required.
	Disk Disk
	// Logs returns what a container's logs take. Required.
	Logs func(p Pod, c Container) (bytes, inodes int64)
	// Proc is where /proc is; for tests.
	Proc string
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "", c.Cgroup == "":
		return errors.New("stats config: Dir and Cgroup are required")
	case c.Pods == nil, c.Disk == nil, c.Logs == nil:
		return errors.New("stats config: Pods, Disk and Logs are required")
	}
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	return nil
}

// Collector measures when it is asked. Its methods are safe to call at once.
type Collector struct {
	cfg     Config
	cgroups Cgroups
	rates   rates
	sizes   sizes
	claims  claims

	mu       sync.Mutex // held while measuring: who comes meanwhile gets the same
	last     *statsapi.Summary
	at       time.Time
	imageDir string
}

// New finds the machine's cgroups.
func New(cfg Config) (*Collector, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(cfg.Proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	cgroups, err := ParseCgroups(string(text))
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	return &Collector{cfg: cfg, cgroups: cgroups}, nil
}

// fresh is how long a summary is given again as it is.
const fresh = time.Second

// Summary measures everything. Where nothing was measured for a while it takes
// a moment, so that it can say what is used now. It must not be changed.
func (c *Collector) Summary(ctx context.Context) (*statsapi.Summary, error) {
	pods := c.cfg.Pods()
	c.claims.ask(ctx, pods, time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && time.Since(c.at) < fresh {
		return c.last, nil
	}
	if err := c.warmUp(ctx, pods); err != nil {
		return nil, err
	}
	node, err := c.nodeLocked(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure node: %w", err)
	}
	summary := &statsapi.Summary{Node: *node}
	for _, p := range pods {
		summary.Pods = append(summary.Pods, c.pod(ctx, p, node))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.forget(pods)
	c.last, c.at = summary, time.Now()
	return summary, nil
}

// warmUp takes a first sample of the CPU where there is none, and waits.
func (c *Collector) warmUp(ctx context.Context, pods []Pod) error {
	now := time.Now()
	cold := !c.rates.known(nodeName, now)
	for name, cgroup := range c.counters(pods) {
		if !c.rates.known(name, now) {
			cold = true
			c.cpu(name, c.cgroups.Read(cgroup).CPU)
		}
	}
	if !cold {
		return nil
	}
	if !c.rates.known(nodeName, now) {
		if busy, _, err := c.stat(); err == nil {
			c.cpu(nodeName, &busy)
		}
		if cpu, _, err := c.self(); err == nil {
			c.cpu(agentName, &cpu)
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(quick):
		return nil
	}
}

// The names of counters that are no pod's.
const (
	nodeName  = "node"
	agentName = "agent"
	podsName  = "pods"
)

// counters are the cgroups that have a rate, by the name of it.
func (c *Collector) counters(pods []Pod) map[string]string {
	all := map[string]string{podsName: c.cfg.Cgroup}
	for _, p := range pods {
		all[p.UID] = p.Cgroup
		for _, container := range p.Containers {
			all[container.ID] = container.Cgroup
		}
	}
	return all
}

// forget drops what is known of pods that are gone.
func (c *Collector) forget(pods []Pod) {
	counters, measured := map[string]bool{nodeName: true, agentName: true}, map[string]bool{imagesName: true}
	mounted := map[string]bool{}
	for name := range c.counters(pods) {
		counters[name] = true
	}
	for _, p := range pods {
		for _, container := range p.Containers {
			measured[rootName(container)] = true
		}
		for _, v := range p.Volumes {
			measured[volumeName(p, v)] = true
			mounted[v.Path] = mounted[v.Path] || v.FileSystem
		}
	}
	c.rates.keep(counters)
	c.sizes.keep(measured)
	c.claims.keep(mounted)
}
