package nodeagent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// agent is one running node agent.
type agent struct {
	cfg         Config
	machine     machine
	mirror      *registry.Mirror
	bindings    *bindings
	links       *links
	observer    *observer
	allocations *allocations
	publisher   *publisher
	presence    *presence
	metrics     *metrics
	server      Server // may be nil
	meter       Meter
	pressure    nodePressure
	slots       chan struct{} // one for each container being started
	setups      chan struct{} // one for each network being set up

	mu       sync.Mutex
	workers  map[string]*worker
	reports  map[types.UID]corev1.PodStatus // said by an earlier process, until a worker takes it up
	leftover map[string]bool                // pods found at start that must be gone before the node is ready
	counting bool                           // leftover is complete

	cidrMu sync.Mutex
	cidr   netip.Prefix // that the network has been told

	settled       chan struct{} // closed when nothing is here that should not be
	nodeChanged   chan struct{}
	routesChanged chan struct{}
	staticChanged chan struct{}
}

// Run runs the node's pods until ctx ends, and leaves them running.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	a := newAgent(cfg)
	if cfg.Serve != nil {
		var err error
		if a.server, err = cfg.Serve(View{a}); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	tasks := []func(context.Context) error{a.observer.run, a.keepRoutes, a.followImages, a.takeOver, a.keepResources, a.followLogs}
	if a.server != nil {
		tasks = append(tasks, a.server.Run)
	}
	if !cfg.Standalone {
		tasks = append(tasks, a.mirror.Run, a.publisher.run, a.register, a.holdLease, a.followPresence, a.showStatic)
	}
	for _, task := range tasks {
		g.Go(func() error { return task(ctx) })
	}
	return g.Wait()
}

func newAgent(cfg Config) *agent {
	a := &agent{
		cfg: cfg,
		machine: machine{
			node: cfg.Node, hostIP: cfg.NodeIP.String(), cgroupRoot: cfg.CgroupRoot, memory: cfg.Capacity.Memory,
			domain: cfg.Domain, seccompDir: cfg.SeccompDir, allocatable: allocatable(cfg), podPIDs: cfg.PodPIDs,
		},
		mirror: registry.NewMirror(registry.MirrorConfig{
			Store: cfg.Store, Prefixes: []string{schema.BindingPrefix(cfg.Node)}, Logger: cfg.Logger,
		}),
		bindings: &bindings{},
		links:    newLinks(cfg.Store),
		presence: newPresence(cfg.Store, cfg.LeaseTTL),
		metrics:  newMetrics(cfg.Registerer),
		slots:    make(chan struct{}, cfg.StartWorkers),
		setups:   make(chan struct{}, cfg.StartWorkers),
		workers:  map[string]*worker{},
		leftover: map[string]bool{},
		settled:  make(chan struct{}), nodeChanged: make(chan struct{}, 1), routesChanged: make(chan struct{}, 1),
		staticChanged: make(chan struct{}, 1),
	}
	a.publisher = newPublisher(cfg.Store, cfg.Node, a.bindings.mirrored, cfg.Logger)
	a.allocations = newAllocations(cfg.Volumes.Files, a.machine.allocatable, a.livePods, a.cfg.Recorder.Event, cfg.Logger)
	a.meter = cfg.Meter
	if a.meter == nil {
		a.meter = &meter{agent: a}
	}
	a.observer = newObserver(cfg.Runtime, cfg.Logger, a.wake, a.answered)
	return a
}

// takeOver waits until it is known what an earlier process left on the machine
// and what it said of it, and then lets the bindings have their way. Every pod
// that is here has a worker from then on. It returns when all workers have.
func (a *agent) takeOver(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.observer.listed:
	}
	for ctx.Err() == nil {
		err := a.look(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			a.cfg.Logger.Warn("node not taken over, will be tried again", "error", err)
			wait(ctx, time.Second)
		}
	}
	var pods sync.WaitGroup
	defer pods.Wait()
	spawn := func(w *worker) { pods.Go(func() { w.run(ctx) }) }
	if a.cfg.Static != nil && a.takeStatic(ctx, spawn) {
		pods.Go(func() {
			for a.takeStatic(ctx, spawn) {
			}
		})
	}
	if !a.cfg.Standalone {
		a.serve(ctx, spawn)
	}
	<-ctx.Done()
	return nil
}

// look finds what is on the machine and what was said of it.
func (a *agent) look(ctx context.Context) error {
	reports, err := map[types.UID]corev1.PodStatus{}, error(nil)
	if !a.cfg.Standalone {
		reports, err = readReports(ctx, a.cfg.Store, a.cfg.Node)
	}
	if err != nil {
		return fmt.Errorf("earlier pod statuses: %w", err)
	}
	found, err := a.found()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reports, a.leftover = reports, found
	return nil
}

// takeReportLocked returns what an earlier process of this node last said of a
// pod.
func (a *agent) takeReportLocked(uid string) corev1.PodStatus {
	status := a.reports[types.UID(uid)]
	delete(a.reports, types.UID(uid))
	return status
}

// found lists the pods that have anything on this machine.
func (a *agent) found() (map[string]bool, error) {
	uids := map[string]bool{}
	for _, uid := range a.observer.uids() {
		uids[uid] = true
	}
	sandboxes, err := a.cfg.Network.List()
	if err != nil {
		return nil, fmt.Errorf("pods with a network: %w", err)
	}
	for _, s := range sandboxes {
		uids[s.UID] = true
	}
	volumes, err := a.cfg.Volumes.List()
	if err != nil {
		return nil, fmt.Errorf("pods with volumes: %w", err)
	}
	for _, uid := range volumes {
		uids[uid] = true
	}
	logs, err := a.cfg.Logs.Pods()
	if err != nil {
		return nil, fmt.Errorf("pods with logs: %w", err)
	}
	for _, uid := range logs {
		uids[uid] = true
	}
	return uids, nil
}
