package nodeagent

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// agent is one running node agent.
type agent struct {
	cfg       Config
	machine   machine
	mirror    *registry.Mirror
	bindings  *bindings
	observer  *observer
	publisher *publisher
	metrics   *metrics
	slots     chan struct{} // one for each container being started

	mu       sync.Mutex
	workers  map[string]*worker
	reports  map[types.UID]corev1.PodStatus // said by an earlier process
	leftover map[string]bool                // pods found at start that must be gone before the node is ready
	counting bool                           // leftover is complete

	settled     chan struct{} // closed when nothing is here that should not be
	nodeChanged chan struct{}
	readyStatus corev1.ConditionStatus
	readySince  metav1.Time
}

// Run runs the node's pods until ctx ends, and leaves them running.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	a := newAgent(cfg)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.mirror.Run(ctx) })
	g.Go(func() error { return a.observer.run(ctx) })
	g.Go(func() error { return a.publisher.run(ctx) })
	g.Go(func() error { return a.register(ctx) })
	g.Go(func() error { return a.holdLease(ctx) })
	g.Go(func() error { return a.resync(ctx) })
	g.Go(func() error { return a.takeOver(ctx, g) })
	return g.Wait()
}

func newAgent(cfg Config) *agent {
	a := &agent{
		cfg: cfg,
		machine: machine{
			node: cfg.Node, hostIP: cfg.NodeIP.String(), cgroupRoot: cfg.CgroupRoot, logDir: cfg.LogDir, memory: cfg.Capacity.Memory,
		},
		mirror: registry.NewMirror(registry.MirrorConfig{
			Store: cfg.Store, Prefixes: []string{schema.BindingPrefix(cfg.Node)}, Logger: cfg.Logger,
		}),
		bindings:  newBindings(),
		publisher: newPublisher(cfg.Store, cfg.Node, cfg.Logger.Warn),
		metrics:   newMetrics(cfg.Registerer),
		slots:     make(chan struct{}, cfg.StartWorkers),
		workers:   map[string]*worker{},
		leftover:  map[string]bool{},
		settled:   make(chan struct{}), nodeChanged: make(chan struct{}, 1),
	}
	a.observer = newObserver(cfg.Runtime, cfg.Logger, a.wake)
	return a
}

// takeOver waits until it is known what an earlier process left on the machine
// and what it said of it, and then lets the bindings have their way. Every pod
// that is here has a worker from then on.
func (a *agent) takeOver(ctx context.Context, g *errgroup.Group) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.observer.listed:
	}
	for a.reports == nil {
		reports, err := readReports(ctx, a.cfg.Store, a.cfg.Node)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			a.cfg.Logger.Warn("earlier pod statuses not read, will be tried again", "error", err)
			wait(ctx, time.Second)
			continue
		}
		a.reports = reports
	}
	uids, err := a.found()
	if err != nil {
		return fmt.Errorf("take over node %s: %w", a.cfg.Node, err)
	}
	var pods sync.WaitGroup
	defer pods.Wait()
	a.mu.Lock()
	for uid := range uids {
		a.leftover[uid] = true
	}
	a.mu.Unlock()
	spawn := func(w *worker) { pods.Go(func() { w.run(ctx) }) }
	return a.serve(ctx, spawn)
}

// found lists the pods that have anything on this machine.
func (a *agent) found() (map[string]bool, error) {
	uids := map[string]bool{}
	for _, uid := range a.observer.uids() {
		uids[uid] = true
	}
	sandboxes, err := a.cfg.Network.List()
	if err != nil {
		return nil, err
	}
	for _, s := range sandboxes {
		uids[s.UID] = true
	}
	volumes, err := a.cfg.Volumes.List()
	if err != nil {
		return nil, err
	}
	for _, uid := range volumes {
		uids[uid] = true
	}
	return uids, nil
}
