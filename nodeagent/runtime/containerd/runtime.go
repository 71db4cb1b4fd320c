package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Config says which containerd to use, and how.
type Config struct {
	// Address is containerd's socket. Required.
	Address string
	// Namespace is the containerd namespace that this node alone uses.
	// Default: "evenkeel-" and Node.
	Namespace string
	// Node is the node's name. Required.
	Node string
	// Snapshotter makes root file systems. Default: overlayfs where containerd
	// has it working, else native (which copies).
	Snapshotter string
	// OCIRuntime is the program that makes containers: "runc" (default) or "crun".
	OCIRuntime string
	// RegistryDir says where registries are, who mirrors them and whom to trust,
	// as containerd's certs.d: HOST/hosts.toml. It is read anew for each pull.
	// Default: every registry is where its name says, and known to the system's
	// certificate authorities.
	RegistryDir string
	// MaxParallelPulls is how many images are pulled at once. Default 3.
	MaxParallelPulls int
	// PlainHTTP names registries ("host" or "host:port") that are asked without
	// TLS. Those on loopback always are.
	PlainHTTP []string
	// DaemonState is containerd's own state directory. Default: that of its
	// socket.
	DaemonState string
	// StateDir holds the pipes of commands run in containers. Required.
	StateDir string
	// CgroupRoot is the node's part of the cgroup tree, as "/evenkeel/<node>":
	// Cleanup removes it, and the directory above it when that is empty.
	// Default: nothing is removed above the containers' own parents.
	CgroupRoot string
	// Logger is required.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Address == "":
		return errors.New("containerd config: Address is empty")
	case c.Node == "":
		return errors.New("containerd config: Node is empty")
	case c.StateDir == "":
		return errors.New("containerd config: StateDir is empty")
	case c.Logger == nil:
		return errors.New("containerd config: Logger is nil")
	}
	if c.Namespace == "" {
		c.Namespace = "evenkeel-" + c.Node
	}
	if c.DaemonState == "" {
		c.DaemonState = filepath.Dir(c.Address)
	}
	if c.MaxParallelPulls == 0 {
		c.MaxParallelPulls = 3
	}
	if c.MaxParallelPulls < 0 {
		return fmt.Errorf("containerd config: MaxParallelPulls %d is negative", c.MaxParallelPulls)
	}
	switch c.OCIRuntime {
	case "":
		c.OCIRuntime = "runc"
	case "runc", "crun":
	default:
		return fmt.Errorf("containerd config: OCIRuntime %q is neither runc nor crun", c.OCIRuntime)
	}
	return nil
}

// Runtime is a runtime.Runtime. Its methods are safe to call at once.
type Runtime struct {
	cfg     Config
	client  *client.Client
	log     *slog.Logger
	cgroups cgroups
	machine machine
	loading sync.Mutex // of who looks for and loads an AppArmor profile
	mapping sync.Mutex // of who makes and who sweeps places for mapped mounts

	images    imageCache
	pulls     flight[rt.Image]
	pullSlots chan struct{}
	transfers transfers
	unpack    flight[struct{}]

	connected atomic.Int64 // when the connection was made or last lost: nanoseconds since 1970

	mu       sync.Mutex
	holds    imageHolds
	known    map[string]record // containers seen, by id
	starting map[string]bool   // ids between their record and their task
	parents  map[string]int    // cgroup parents with a start under way
	work     sync.WaitGroup
}

var _ rt.Runtime = (*Runtime)(nil)

// New connects to containerd. The error wraps runtime.ErrUnavailable when it
// does not answer. Close releases the connection; containers stay.
func New(ctx context.Context, cfg Config) (*Runtime, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	hierarchies, err := readCgroups("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		cfg: cfg, log: cfg.Logger, cgroups: hierarchies,
		machine: readMachine(hierarchies), pullSlots: make(chan struct{}, cfg.MaxParallelPulls), holds: newImageHolds(),
		known: map[string]record{}, starting: map[string]bool{}, parents: map[string]int{},
	}
	r.connected.Store(time.Now().UnixNano())
	r.client, err = client.New(cfg.Address, client.WithDefaultNamespace(cfg.Namespace), client.WithTimeout(2*time.Second))
	if err != nil {
		return nil, unavailable("connect to containerd at "+cfg.Address, err)
	}
	if _, err := r.Version(ctx); err != nil {
		_ = r.client.Close()
		return nil, err
	}
	if err := r.chooseSnapshotter(ctx); err != nil {
		_ = r.client.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the connection to containerd and waits for the Runtime's own
// goroutines, whose contexts the caller has ended. It stops no container.
func (r *Runtime) Close() error {
	err := r.client.Close()
	r.work.Wait()
	return err
}

// Version names containerd and its version.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(ctx)
	if err != nil {
		return "", unavailable("ask containerd for its version", err)
	}
	return "containerd://" + shortVersion(v.Version), nil
}

// shortVersion drops what a distribution adds to a version: "1.6.20~ds1".
func shortVersion(v string) string {
	short, _, _ := strings.Cut(strings.TrimPrefix(v, "v"), "~")
	return short
}

// chooseSnapshotter takes overlayfs where containerd could load it, else the
// one that works on every file system.
func (r *Runtime) chooseSnapshotter(ctx context.Context) error {
	if r.cfg.Snapshotter != "" {
		return nil
	}
	plugins, err := r.client.IntrospectionService().Plugins(ctx, `type==io.containerd.snapshotter.v1`)
	if err != nil {
		return unavailable("list containerd's snapshotters", err)
	}
	works := map[string]bool{}
	for _, p := range plugins.Plugins {
		works[p.ID] = p.InitErr == nil
	}
	switch {
	case works["overlayfs"]:
		r.cfg.Snapshotter = "overlayfs"
	case works["native"]:
		r.cfg.Snapshotter = "native"
		r.log.Warn("containerd has no working overlayfs, using the slower native snapshotter")
	default:
		return errors.New("containerd has neither the overlayfs nor the native snapshotter: put its root on a file system that overlayfs can use (ext4, xfs)")
	}
	return nil
}

// scope puts the node's containerd namespace into a context, for the calls
// that look for it there, and keeps containerd's client from writing to our
// standard error: what matters of it is in the errors it returns.
func (r *Runtime) scope(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, r.cfg.Namespace), silent)
}

var silent = func() *log.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}()

// detached is a context for putting things right after the caller's own has
// ended.
func (r *Runtime) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.scope(context.WithoutCancel(ctx)), 30*time.Second)
}
