package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	goruntime "runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/network"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/volume"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Network gives pods their namespaces and addresses. network.Network is the
// real one.
type Network interface {
	Setup(ctx context.Context, pod network.Pod) (network.Sandbox, error)
	Teardown(ctx context.Context, uid string) error
	List() ([]network.Sandbox, error)
	SetPodCIDR(cidr netip.Prefix) error
	SetPeers(ctx context.Context, peers []network.Peer) error
}

// Volumes makes what pods mount. volume.Manager is the real one.
type Volumes interface {
	Prepare(ctx context.Context, pod *corev1.Pod, refs volume.Refs) (map[string]string, error)
	Update(pod *corev1.Pod, refs volume.Refs) error
	Remove(podUID string) error
	List() ([]string, error)
	Files(podUID string) string
	Dir(podUID, volume string) string
	Mounted(podUID, volume string) (bool, error)
	Answers(ctx context.Context, podUID, volume string) error
	Unmount(podUID string) error
	SubPath(podUID, container, volumePath, subPath string) (string, error)
	WriteHosts(podUID string, hosts volume.Hosts) (string, error)
	WriteResolvConf(podUID string, conf volume.Resolv) (string, error)
	SharedMemory(podUID string) (string, error)
	TerminationLog(podUID, container string, attempt int) (string, error)
	ReadTerminationLog(podUID, container string, attempt int) string
}

// Logs keeps what containers write. logs.Manager is the real one.
type Logs interface {
	Open(c logs.Container) (logs.Spools, error)
	Discard(c logs.Container)
	Keep(c logs.Container, pid int) error
	Left() <-chan string // of pods, by UID, whose containers are to be kept
	Tail(ctx context.Context, c logs.Container, lines, bytes int64) (string, error)
	RemovePod(podUID string) error
	Pods() ([]string, error)
}

// Server answers what is asked of the node. server.Server is the real one.
type Server interface {
	Port() int32
	CertificateHash() string
	Run(ctx context.Context) error
}

// Config says for which machine an agent works and with what.
type Config struct {
	Node    string            // name; a DNS subdomain, unique in the cluster
	NodeIP  netip.Addr        // where other nodes reach this one
	Labels  map[string]string // of the node, beside the usual ones
	Version string            // of Evenkeel, for the node's status

	Store    registry.Store
	Runtime  runtime.Runtime
	Network  Network
	Volumes  Volumes
	Logs     Logs
	Recorder *registry.Recorder

	Capacity Capacity // of the machine; what pods may ask for is Capacity less Reserved
	Reserved Capacity

	DNS          netip.Addr    // address of the cluster's name server in pods; invalid: none
	Domain       string        // default "cluster.local"
	ResolvConf   string        // of the machine; default /etc/resolv.conf
	CgroupRoot   string        // parent of all pods' cgroups; default "/evenkeel/<node>"
	SeccompDir   string        // of the profiles that pods name; default "/var/lib/evenkeel/seccomp"
	LeaseTTL     time.Duration // how long a dead agent counts as alive; default 10 s
	StartWorkers int           // how many containers are started at once; default 4 for each CPU

	// Static, if set, brings the node's own pods, made by StaticPod: with each
	// receive all that there are. The agent waits for the first before it
	// takes the bindings. Standalone agents have no control plane and no Store
	// that answers: they run the static pods alone.
	Static     <-chan []*corev1.Pod
	Standalone bool
	PodCIDR    netip.Prefix // of pods' addresses, for as long as the control plane has not given another; invalid: none

	PodPIDs  int64 // processes and threads that a pod may have; 0: any number
	Eviction Eviction
	Meter    Meter                                        // default: of the machine that the agent runs on
	LogSize  func(c logs.Container) (bytes, inodes int64) // what a container's logs take; nil: they are not counted

	// Serve, if set, makes the node's server from what the agent knows.
	Serve func(View) (Server, error)

	// ImagesChanged, if set, is sent to when images were loaded from outside:
	// pods that wait for one try again at once.
	ImagesChanged <-chan struct{}
	// ImagesLoaded, if set, is closed when the images that lay ready on the
	// machine are loaded: before that no pod asks a registry for one that is not
	// there.
	ImagesLoaded <-chan struct{}

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// startsPerCPU is how many containers are started at once for each CPU. Most of
// a start is waiting for the kernel and for other processes: with two a CPU the
// same 30 pods took a third longer.
const startsPerCPU = 4

// Capacity is what a machine has.
type Capacity struct {
	MilliCPU int64
	Memory   int64 // bytes
	Storage  int64 // bytes of the file system of volumes and logs; 0: not known
	Pods     int64
}

func (c *Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("nodeagent: Node is empty")
	case !c.NodeIP.IsValid():
		return fmt.Errorf("nodeagent: NodeIP of %s is not set", c.Node)
	case c.Store == nil, c.Runtime == nil, c.Network == nil, c.Volumes == nil, c.Logs == nil, c.Recorder == nil, c.Logger == nil:
		return errors.New("nodeagent: Store, Runtime, Network, Volumes, Logs, Recorder and Logger are required")
	}
	if err := c.Eviction.validate(); err != nil {
		return fmt.Errorf("nodeagent: %w", err)
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.CgroupRoot == "" {
		c.CgroupRoot = "/evenkeel/" + c.Node
	}
	if c.SeccompDir == "" {
		c.SeccompDir = "/var/lib/evenkeel/seccomp"
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 10 * time.Second
	}
	if c.StartWorkers == 0 {
		c.StartWorkers = startsPerCPU * goruntime.NumCPU()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return nil
}
