package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/control"
	"github.com/evenkeel/evenkeel/cmd/internal/node"
	"github.com/evenkeel/evenkeel/cmd/internal/services"
	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// up is `reconcile up`: all parts in one process on this machine.
type up struct {
	logging  command.Logging
	monitor  command.Monitor
	etcd     backend.Flags
	control  control.Flags
	node     node.Flags
	services services.Flags
}

func newUp() *cobra.Command {
	u := &up{}
	cmd := &cobra.Command{
		Use:   "up [flags] SOURCE…",
		Short: "Run everything on this machine",
		Long: `up runs the control plane, the node agent and the proxy in one process, with an
embedded etcd under --data-dir, and keeps this machine as the sources declare.

Ctrl-C stops Evenkeel and leaves the containers running; up again takes them
over without restarting one. ` + "`reconcile down`" + ` removes all that it made.`,
		Example: `  reconcile up testdata/guestbook
  reconcile up --images ./images ./manifests https://example.org/ops.git`,
		Args: cobra.MinimumNArgs(1),
		RunE: u.run,
	}
	u.logging.AddFlags(cmd, "warn")
	u.monitor.AddFlags(cmd, "127.0.0.1:7400")
	u.etcd.AddFlags(cmd)
	u.control.AddSourceFlags(cmd)
	u.control.AddClusterFlags(cmd)
	u.control.API.AddAPIFlags(cmd)
	u.node.AddFlags(cmd)
	u.services.AddFlags(cmd)
	return cmd
}

func etcdDir(dataDir string) string { return filepath.Join(dataDir, "etcd") }

func (u *up) run(cmd *cobra.Command, places []string) error {
	logger, err := u.logging.Logger()
	if err != nil {
		return err
	}
	if err := u.node.Complete(); err != nil {
		return err
	}
	u.node.ServiceCIDR = u.control.ServiceCIDR
	sources, err := u.control.Sources(places, u.node.DataDir, logger)
	if err != nil {
		return err
	}
	n, err := node.Open(cmd.Context(), u.node, logger)
	if err != nil {
		return err
	}
	defer n.Close()
	store, closeStore, err := u.openStore(cmd.Context(), logger)
	if err != nil {
		return err
	}
	screen := newScreen(cmd, u.node, places, u.control.API.Kubeconfig(u.node.DataDir))
	screen.hello(n.Runtime())
	err = u.serve(cmd.Context(), n, store, sources, screen, logger)
	err = errors.Join(err, closeStore())
	if err == nil {
		screen.goodbye()
	}
	return err
}

// openStore connects to the etcd given, or starts the embedded one.
func (u *up) openStore(ctx context.Context, logger *slog.Logger) (registry.Store, func() error, error) {
	if u.etcd.Given() {
		return u.etcd.Open(ctx, logger)
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: etcdDir(u.node.DataDir), Logger: logger})
	if errors.Is(err, embedded.ErrInUse) {
		return nil, nil, fmt.Errorf("`reconcile up` already runs on this machine: %w", err)
	}
	if err != nil {
		return nil, nil, err
	}
	return etcd.NewStore(server.Client()), server.Close, nil
}

// serve runs all parts until ctx ends or one of them fails.
func (u *up) serve(ctx context.Context, n *node.Node, store registry.Store, sources []manifests.Source, screen *screen, logger *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return command.Settle(ctx) })
	g.Go(func() error { return u.monitor.Run(ctx, logger, func() error { return nil }) })
	g.Go(func() error {
		return control.Run(ctx, control.Config{
			Flags: u.control, Sources: sources, Store: store, Synced: screen.synced, Logger: logger, Registerer: u.monitor.Registry,
			DataDir: u.node.DataDir, NodeIP: u.node.Addr(),
		})
	})
	g.Go(func() error { return n.Run(ctx, store, u.monitor.Registry) })
	g.Go(func() error {
		return services.Run(ctx, services.Config{
			Flags: u.services, Node: u.node.Name, NodeIP: u.node.Addr(), DNS: u.node.DNS, Domain: u.node.Domain,
			Store: store, Logger: logger, Registerer: u.monitor.Registry,
		})
	})
	g.Go(func() error { return screen.follow(ctx, store) })
	return g.Wait()
}
