// Package node puts a node agent together: containerd, network, volumes,
// images from a directory, and the agent over them. The nodeagent program and
// `reconcile up` call it.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/machine"
	"github.com/evenkeel/evenkeel/nodeagent"
	"github.com/evenkeel/evenkeel/nodeagent/checkpoint"
	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/containerd"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Flags say what machine an agent works on.
type Flags struct {
	Name           string
	IP             string
	Labels         map[string]string
	DataDir        string
	RunDir         string
	LogDir         string
	Server         string // address of the node's server
	LogSize        int64
	LogFiles       int
	Images         string
	StaticPods     []string
	PodCIDR        string
	Standalone     bool // there is no control plane, and no store that answers
	Containerd     string
	OCIRuntime     string
	PlainHTTP      []string
	DNS            string
	Domain         string
	ServiceCIDR    string
	ReservedCPU    int64
	ReservedMemory int64

	Resources
}

// AddFlags adds the flags.
func (f *Flags) AddFlags(cmd *cobra.Command) {
	f.AddPlaceFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.IP, "node-ip", "", "address at which other nodes reach this one (default: that of the default route)")
	flags.StringToStringVar(&f.Labels, "node-labels", nil, "labels of the node: key=value, separated by commas")
	flags.StringVar(&f.Server, "server-address", "", "host:port at which the node serves logs, commands and statistics to the API (default: the node's address, port 10250 or a free one)")
	flags.Int64Var(&f.LogSize, "log-max-size", 10<<20, "bytes of one log file of a container")
	flags.IntVar(&f.LogFiles, "log-max-files", 5, "log files of a container, of which older ones are compressed")
	flags.StringVar(&f.Images, "images", "", "directory of OCI and docker archives (.tar, .tar.gz, .tgz) to load, now and when they appear")
	flags.StringSliceVar(&f.StaticPods, "static-pods", nil, "files, directories and URLs of manifests of pods that this node runs by itself")
	flags.StringSliceVar(&f.PlainHTTP, "plain-http", nil, "registries (host or host:port) that are asked without TLS, beside those on loopback")
	flags.StringVar(&f.DNS, "dns-address", machine.DefaultDNS, "address of the name server in pods; empty for the machine's own")
	flags.StringVar(&f.Domain, "cluster-domain", "cluster.local", "domain of services")
	flags.Int64Var(&f.ReservedCPU, "reserved-cpu", 0, "milli-CPUs that pods cannot ask for")
	flags.Int64Var(&f.ReservedMemory, "reserved-memory", 0, "bytes of memory that pods cannot ask for")
	f.addFlags(cmd)
}

// AddPlaceFlags adds only the flags that say where a node keeps its things,
// which is all that its removal needs.
func (f *Flags) AddPlaceFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Name, "node-name", "", "name of the node (default: the host's name)")
	flags.StringVar(&f.DataDir, "data-dir", "/var/lib/evenkeel", "directory of everything that lasts")
	flags.StringVar(&f.RunDir, "run-dir", "", "directory of what a reboot clears (default /run/evenkeel/NODE)")
	flags.StringVar(&f.LogDir, "log-dir", "/var/log/pods", "directory of the containers' logs")
	flags.StringVar(&f.Containerd, "containerd", "", "containerd's socket (default: the machine's, or else a private one)")
	flags.StringVar(&f.OCIRuntime, "oci-runtime", "runc", "program that makes containers: runc or crun")
}

// PlaceArgs repeats those of the place flags that a command was given, each
// after a space: what its `reconcile down` has to be given too.
func PlaceArgs(cmd *cobra.Command) string {
	places := &cobra.Command{}
	(&Flags{}).AddPlaceFlags(places)
	var args strings.Builder
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if places.Flags().Lookup(flag.Name) != nil {
			fmt.Fprintf(&args, " --%s %s", flag.Name, flag.Value)
		}
	})
	return args.String()
}

// Complete fills in what the flags left out and checks them.
func (f *Flags) Complete() error {
	var err error
	if f.Name, f.IP, err = machine.Identity(f.Name, f.IP); err != nil {
		return err
	}
	if f.RunDir == "" {
		f.RunDir = filepath.Join("/run/evenkeel", f.Name)
	}
	for _, dir := range []*string{&f.DataDir, &f.RunDir, &f.LogDir} {
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = absolute
	}
	if f.OCIRuntime != "runc" && f.OCIRuntime != "crun" {
		return fmt.Errorf("--oci-runtime %q: must be runc or crun", f.OCIRuntime)
	}
	return f.Resources.validate()
}

// CheckPlace returns an error if the data directory has another node's things
// and none of this one. To remove those under a wrong name would stop their
// containerd and then not find them.
func (f *Flags) CheckPlace() error {
	nodes, err := os.ReadDir(f.podsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var others []string
	for _, node := range nodes {
		if node.Name() == f.Name {
			return nil
		}
		others = append(others, node.Name())
	}
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%s holds nothing of node %s, but of %s: say --node-name %s", f.DataDir, f.Name, strings.Join(others, ", "), others[0])
}

// Addr is the node's address.
func (f *Flags) Addr() netip.Addr { return netip.MustParseAddr(f.IP) }

// Node is a machine put together: Run runs its agent.
type Node struct {
	flags   Flags
	logger  *slog.Logger
	runtime *containerd.Runtime
	network *network.Network
	volumes *volume.Manager
	logs    *logs.Manager
	private string // socket of a containerd of our own, or ""
}

// cgroupRoot is the parent of the node's pods' cgroups.
func (f *Flags) cgroupRoot() string { return "/evenkeel/" + f.Name }

// podsDir has a directory for each node with this data directory.
func (f *Flags) podsDir() string { return filepath.Join(f.DataDir, "pods") }

func (f *Flags) privateDir() string { return filepath.Join(f.DataDir, "containerd") }

// Open connects to containerd, the machine's own or else a private one, and
// prepares network and volumes. The caller calls Close.
func Open(ctx context.Context, f Flags, logger *slog.Logger) (*Node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("must be root: it makes namespaces, mounts and cgroups")
	}
	if _, err := exec.LookPath(f.OCIRuntime); err != nil {
		return nil, fmt.Errorf("%s is not installed: apt-get install %s", f.OCIRuntime, f.OCIRuntime)
	}
	n := &Node{flags: f, logger: logger}
	if err := n.awaitRuntime(ctx); err != nil {
		return nil, err
	}
	if err := n.openRest(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) openRest() error {
	cfg := network.Config{Node: n.flags.Name, RunDir: n.flags.RunDir, NodeIP: n.flags.Addr(), Masquerade: true, Users: podUsers(), Logger: n.logger}
	if n.flags.ServiceCIDR != "" {
		cidr, err := netip.ParsePrefix(n.flags.ServiceCIDR)
		if err != nil {
			return fmt.Errorf("--service-cidr: %w", err)
		}
		cfg.Unmasqueraded = []netip.Prefix{cidr}
	}
	var err error
	if n.network, err = network.New(cfg); err != nil {
		return err
	}
	n.volumes, err = volume.New(volume.Config{Dir: filepath.Join(n.flags.podsDir(), n.flags.Name), Logger: n.logger})
	return err
}

// podUsers are the machine's IDs for pods with users of their own; the default
// where it has no such files.
func podUsers() network.UserRange {
	subuid, _ := os.ReadFile("/etc/subuid")
	subgid, _ := os.ReadFile("/etc/subgid")
	return network.KubeletUsers(string(subuid), string(subgid))
}

// Close releases connections; everything that runs goes on.
func (n *Node) Close() {
	if n.network != nil {
		n.network.Close()
	}
	if err := n.runtime.Close(); err != nil {
		n.logger.Warn("close containerd", "error", err)
	}
}

// Runtime is the node's container runtime.
func (n *Node) Runtime() rt.Runtime { return n.runtime }

// openLogs takes up the logs of containers that an earlier process started.
func (n *Node) openLogs(registerer prometheus.Registerer) error {
	taken := prometheus.NewCounter(prometheus.CounterOpts{Name: "evenkeel_nodeagent_log_bytes_total", Help: "Output of containers that was taken into their logs."})
	if err := registerer.Register(taken); err != nil {
		return err
	}
	var err error
	n.logs, err = logs.New(logs.Config{
		Dir: n.flags.spoolDir(), LogDir: n.flags.LogDir, MaxSize: n.flags.LogSize, MaxFiles: n.flags.LogFiles,
		Written: func(bytes int) { taken.Add(float64(bytes)) }, Logger: n.logger,
	})
	return err
}

func (f *Flags) spoolDir() string { return filepath.Join(f.DataDir, "logs", f.Name) }

// Run runs the agent and follows the image directory until ctx ends.
func (n *Node) Run(ctx context.Context, store registry.Store, registerer prometheus.Registerer) error {
	recorder := registry.NewRecorder(registry.RecorderConfig{Store: store, Component: "nodeagent", Host: n.flags.Name, Logger: n.logger})
	images := make(chan struct{}, 1)
	eviction, err := n.flags.eviction()
	if err != nil {
		return err
	}
	capacity, err := capacity(n.flags.DataDir)
	if err != nil {
		return err
	}
	if err := n.openLogs(registerer); err != nil {
		return err
	}
	noted, err := n.checkpointed(store)
	if err != nil {
		return err
	}
	cfg := nodeagent.Config{
		Node: n.flags.Name, NodeIP: n.flags.Addr(), Labels: n.flags.Labels, Version: command.Version,
		Store: noted, Runtime: n.runtime, Network: n.network, Volumes: n.volumes, Logs: n.logs, Recorder: recorder,
		Capacity: capacity, Reserved: n.flags.reserved(eviction.Thresholds, capacity), Eviction: eviction,
		Domain: n.flags.Domain, CgroupRoot: n.flags.cgroupRoot(), SeccompDir: filepath.Join(n.flags.DataDir, "seccomp"),
		PodPIDs: n.flags.PodPIDs, LogSize: n.logs.ContainerUsage,
		ImagesChanged: images, Logger: n.logger, Registerer: registerer,
	}
	static, err := newStaticPods(n.flags.Name, n.flags.staticFile(), n.flags.StaticPods, n.logger)
	if err != nil {
		return err
	}
	cfg.Serve = n.serving(registerer)
	cfg.Standalone = n.flags.Standalone
	if n.flags.PodCIDR != "" {
		if cfg.PodCIDR, err = netip.ParsePrefix(n.flags.PodCIDR); err != nil {
			return fmt.Errorf("--pod-cidr: %w", err)
		}
	}
	if n.flags.DNS != "" {
		if cfg.DNS, err = netip.ParseAddr(n.flags.DNS); err != nil {
			return fmt.Errorf("--dns-address: %w", err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return recorder.Run(ctx) })
	g.Go(func() error { return n.logs.Run(ctx) })
	g.Go(func() error { return noted.Run(ctx) })
	if len(n.flags.StaticPods) > 0 {
		own := make(chan []*corev1.Pod)
		cfg.Static = own
		g.Go(func() error { return static.run(ctx, own) })
	}
	if n.private != "" {
		g.Go(func() error { return n.keepContainerd(ctx) })
	}
	if n.flags.Images != "" {
		loaded := make(chan struct{})
		cfg.ImagesLoaded = loaded
		loader := imageLoader{dir: n.flags.Images, state: filepath.Join(n.flags.DataDir, "images-"+n.flags.Name+".json"), runtime: n.runtime, logger: n.logger, changed: images, loaded: loaded}
		g.Go(func() error { return loader.run(ctx) })
	}
	g.Go(func() error { return nodeagent.Run(ctx, cfg) })
	return g.Wait()
}

func (f *Flags) checkpointDir() string { return filepath.Join(f.DataDir, "checkpoint", f.Name) }

// staticFile remembers the node's own pods.
func (f *Flags) staticFile() string { return filepath.Join(f.checkpointDir(), "static.json") }

// checkpointed returns the store with a memory on disk of what the agent reads
// and says.
func (n *Node) checkpointed(store registry.Store) (*checkpoint.Store, error) {
	pods := schema.BindingPrefix(n.flags.Name) + schema.Pods.Resource + "/"
	statuses := schema.PodStatusPrefix + n.flags.Name + "/"
	swap := func(key, from, to string) string {
		if name, ok := strings.CutPrefix(key, from); ok {
			return to + name
		}
		return ""
	}
	return checkpoint.Open(checkpoint.Config{
		Store: store, Dir: n.flags.checkpointDir(), Bindings: schema.BindingPrefix(n.flags.Name), Statuses: statuses,
		Mark:      schema.BindingPrefix(n.flags.Name) + schema.BindingNodeName,
		StatusOf:  func(key string) string { return swap(key, pods, statuses) },
		BindingOf: func(key string) string { return swap(key, statuses, pods) },
		Logger:    n.logger,
	})
}

// maxPods is how many pods a node takes, as Kubernetes' default.
const maxPods = 110

func capacity(dataDir string) (nodeagent.Capacity, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nodeagent.Capacity{}, err
	}
	var kib int64
	if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kib); err != nil {
		return nodeagent.Capacity{}, fmt.Errorf("/proc/meminfo: %w", err)
	}
	storage, err := pressure.Storage(dataDir)
	if err != nil {
		return nodeagent.Capacity{}, err
	}
	return nodeagent.Capacity{MilliCPU: int64(runtime.NumCPU()) * 1000, Memory: kib << 10, Storage: storage, Pods: maxPods}, nil
}

// reserved is what pods cannot ask for: what the flags reserve, and what is
// kept free by evicting pods.
func (f *Flags) reserved(thresholds []pressure.Threshold, capacity nodeagent.Capacity) nodeagent.Capacity {
	return nodeagent.Capacity{
		MilliCPU: f.ReservedCPU,
		Memory:   f.ReservedMemory + pressure.Kept(thresholds, pressure.MemoryAvailable, capacity.Memory),
		Storage:  pressure.Kept(thresholds, pressure.NodeFSAvailable, capacity.Storage),
	}
}
