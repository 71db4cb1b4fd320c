package main

import (
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/control"
)

// controlPlane is `reconcile` itself: the control plane alone, or a dry run.
type controlPlane struct {
	logging command.Logging
	monitor command.Monitor
	etcd    backend.Flags
	flags   control.Flags
	dataDir string
	dry     dryRun
}

func newRoot() *cobra.Command {
	c := &controlPlane{}
	cmd := &cobra.Command{
		Use:   "reconcile [flags] SOURCE…",
		Short: "Run containers from git",
		Long: `reconcile makes the cluster in etcd match what the sources declare, and keeps
it matching: it validates, plans, applies, prunes, schedules and repairs.

A SOURCE is a directory, which is watched, or a git repository: a URL
(https, ssh, git@host:path) or a path on this machine.`,
		Example: `  reconcile up testdata/guestbook                     everything, on this machine
  reconcile --dry-run .                               what is wrong, and what would be made
  reconcile --dry-run --etcd 10.0.0.1:2379 .          what would change
  reconcile --dry-run --base origin/main .            what merging this branch would change
  reconcile --etcd 10.0.0.1:2379 --ref main https://example.org/ops.git
                                                      the control plane of a cluster`,
		Args: cobra.ArbitraryArgs,
		RunE: c.run,
	}
	c.logging.AddFlags(cmd, "info")
	c.monitor.AddFlags(cmd, "127.0.0.1:7400")
	c.etcd.AddFlags(cmd)
	c.flags.AddSourceFlags(cmd)
	c.flags.AddClusterFlags(cmd)
	c.flags.API.AddAPIFlags(cmd)
	c.dry.addFlags(cmd)
	cmd.Flags().StringVar(&c.dataDir, "data-dir", "/var/lib/evenkeel", "directory of git caches and of the API's kubeconfig")
	cmd.AddCommand(newUp(), newDown(), newStatus(), newApprove(), newExport(), newExplain(), newKubeconfig(), newWhy())
	return cmd
}

func (c *controlPlane) run(cmd *cobra.Command, places []string) error {
	if len(places) == 0 {
		return errors.New("no SOURCE given: name a directory or a git repository (see reconcile --help)")
	}
	logger, err := c.logging.Logger()
	if err != nil {
		return err
	}
	sources, err := c.flags.Sources(places, c.dataDir, logger)
	if err != nil {
		return err
	}
	if c.dry.enabled {
		return c.dry.run(cmd, dryInput{places: places, sources: sources, etcd: c.etcd, flags: c.flags, dataDir: c.dataDir, logger: logger})
	}
	store, closeStore, err := c.etcd.Open(cmd.Context(), logger)
	if err != nil {
		return err
	}
	defer closeStore()
	g, ctx := errgroup.WithContext(cmd.Context())
	g.Go(func() error { return command.Settle(ctx) })
	g.Go(func() error { return c.monitor.Run(ctx, logger, func() error { return nil }) })
	g.Go(func() error {
		return control.Run(ctx, control.Config{
			Flags: c.flags, Sources: sources, Store: store, Synced: logHead(logger), Logger: logger, Registerer: c.monitor.Registry,
			DataDir: c.dataDir,
		})
	})
	return g.Wait()
}
