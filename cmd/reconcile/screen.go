package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/node"
	"github.com/evenkeel/evenkeel/manifests"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/status"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// screen is what a person sees of `reconcile up`: a line for each thing that
// changes, and where to look once all is ready.
type screen struct {
	node   node.Flags
	places []string
	down   string // the command that removes all
	began  time.Time

	kubeconfig string // "" where no API is served

	mu    sync.Mutex
	w     io.Writer
	shown map[string]string // last line by object
	ready bool
	told  bool // where to look
}

func newScreen(cmd *cobra.Command, n node.Flags, places []string, kubeconfig string) *screen {
	down := os.Args[0] + " down" + node.PlaceArgs(cmd)
	return &screen{w: cmd.OutOrStdout(), node: n, places: places, down: down, kubeconfig: kubeconfig, began: time.Now(), shown: map[string]string{}}
}

func (s *screen) printf(format string, args ...any) {
	fmt.Fprintf(s.w, format, args...)
}

func (s *screen) hello(runtime rt.Runtime) {
	version, err := runtime.Version(context.Background())
	if err != nil {
		version = "containerd"
	}
	s.printf("evenkeel %s on %s (%s), %s, data in %s\n", command.Version, s.node.Name, s.node.IP, version, s.node.DataDir)
}

// synced is told how each source fares.
func (s *screen) synced(h reconciler.Head, findings manifests.Diagnostics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Result == reconciler.Applied {
		s.printf("%s  %s  %d objects in force\n", stamp(), h.Location, h.Objects)
	} else {
		s.printf("%s  %s  %s: %s\n", stamp(), h.Location, h.Result, h.Message)
	}
	for _, f := range findings {
		_ = f.Render(s.w)
	}
	if len(findings) == 0 {
		for _, f := range h.Findings {
			s.printf("    %s\n", f)
		}
	}
}

func stamp() string { return time.Now().Format("15:04:05.000") }

// settle is how long changes are gathered into one line.
const settle = 50 * time.Millisecond

// follow prints what changes until ctx ends.
func (s *screen) follow(ctx context.Context, store registry.Store) error {
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store, Skip: func(key string) bool {
		return strings.HasPrefix(key, schema.Events.Prefix("")) || strings.HasPrefix(key, schema.BindingsPrefix)
	}})
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	objects := mirror.Subscribe(schema.Kinds...)
	defer objects.Close()
	books := mirror.SubscribeRaw(schema.SourcesPrefix)
	defer books.Close()
	for {
		select {
		case <-ctx.Done():
			return <-done
		case <-objects.Ready():
		case <-books.Ready():
		}
		select {
		case <-ctx.Done():
			return <-done
		case <-time.After(settle):
		}
		objects.Take()
		books.Take()
		report, err := status.Compute(mirror)
		if err != nil {
			return err
		}
		s.show(report, mirror)
	}
}

func (s *screen) show(r status.Report, mirror *registry.Mirror) {
	s.mu.Lock()
	defer s.mu.Unlock()
	here := map[string]bool{}
	for _, o := range r.Objects {
		id := o.Kind + " " + o.FullName()
		here[id] = true
		s.line(id, o)
	}
	for id := range s.shown {
		if !here[id] {
			s.printf("%s  %s  gone\n", stamp(), id)
			delete(s.shown, id)
		}
	}
	if r.Ready && !s.ready && len(r.Objects) > 0 {
		s.allReady(r, mirror)
	}
	s.ready = r.Ready
}

// line prints an object that has pods or endpoints when its count or its
// trouble changes; of the others there is nothing to watch.
func (s *screen) line(id string, o status.Object) {
	text := o.Count()
	if o.Kind != "Service" && o.Kind != "ReplicationController" && o.Kind != "Pod" {
		text = "there"
	}
	if o.Reason != "" {
		text += "  " + o.Reason
	}
	if s.shown[id] == text {
		return
	}
	s.shown[id] = text
	if text != "there" {
		s.printf("%s  %-40s %s\n", stamp(), id, text)
	}
}

func (s *screen) allReady(r status.Report, mirror *registry.Mirror) {
	if s.told {
		s.printf("%s  everything is ready\n", stamp())
		return
	}
	s.told = true
	s.printf("\nEverything is ready, %.1f s after the start.\n\n", time.Since(s.began).Seconds())
	for _, o := range r.Objects {
		svc, ok := mirror.Get(schema.Services.Key(o.Namespace, o.Name)).(*corev1.Service)
		if o.Kind != "Service" || !ok {
			continue
		}
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 {
				s.printf("  open     http://%s:%d  (%s)\n", s.node.IP, p.NodePort, o.FullName())
			}
		}
	}
	s.printf("  look     %s status --watch%s\n", os.Args[0], s.dataDirFlag())
	s.printf("  change   edit a file under %s: it is in force within a second\n", strings.Join(s.places, ", "))
	if s.kubeconfig != "" {
		s.printf("  kubectl  kubectl --kubeconfig %s get pods -A\n", s.kubeconfig)
	}
	s.printf("  stop     Ctrl-C leaves the containers running; %s removes all\n\n", s.down)
}

func (s *screen) dataDirFlag() string {
	if s.node.DataDir == "/var/lib/evenkeel" {
		return ""
	}
	return " --data-dir " + s.node.DataDir
}

func (s *screen) goodbye() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.printf("\nStopped. The containers run on. `%s up` takes them over, `%s` removes them.\n", os.Args[0], s.down)
}
