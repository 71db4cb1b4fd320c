package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/node"
	"github.com/evenkeel/evenkeel/cmd/internal/services"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
)

// down is `reconcile down`: nothing of this node is left afterwards.
type down struct {
	logging command.Logging
	node    node.Flags
	grace   time.Duration
}

func newDown() *cobra.Command {
	d := &down{}
	cmd := &cobra.Command{
		Use:   "down [flags]",
		Short: "Stop and remove all that was made on this machine",
		Long: `down stops the containers of this node and removes them with all that was made
for them: images, namespaces, mounts, cgroups, addresses, rules, volumes, logs,
and the data of ` + "`reconcile up`" + `. A running ` + "`reconcile up`" + ` is stopped first; a
nodeagent or proxy of the same node has to be stopped by whoever runs it.

The objects of a cluster with its own etcd stay there.`,
		Example: `  reconcile down
  reconcile down --node-name edge-7`,
		Args: cobra.NoArgs,
		RunE: d.run,
	}
	d.logging.AddFlags(cmd, "warn")
	d.node.AddPlaceFlags(cmd)
	cmd.Flags().DurationVar(&d.grace, "grace", 10*time.Second, "time that containers have between SIGTERM and SIGKILL")
	return cmd
}

func (d *down) run(cmd *cobra.Command, _ []string) error {
	logger, err := d.logging.Logger()
	if err != nil {
		return err
	}
	if err := d.node.Complete(); err != nil {
		return err
	}
	if err := d.node.CheckPlace(); err != nil {
		return err
	}
	ctx := cmd.Context()
	if err := stopUp(ctx, etcdDir(d.node.DataDir)); err != nil {
		return err
	}
	removed, err := node.Remove(ctx, d.node, d.grace, logger)
	if err := errors.Join(err, services.Cleanup(ctx, d.node.Name, logger)); err != nil {
		return fmt.Errorf("not everything was removed; run it again: %w", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Removed %d containers of %d pods, and all else that was made for node %s.\n", removed.Containers, removed.Pods, d.node.Name)
	return nil
}

// stopWait is how long a running `reconcile up` may take to stop.
const stopWait = 30 * time.Second

// stopUp ends a running `reconcile up` and waits until it has let go of its
// data.
func stopUp(ctx context.Context, dir string) error {
	pid, err := embedded.Owner(dir)
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop `reconcile up` (pid %d): %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	for pid != 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("`reconcile up` (pid %d) did not stop within %v", pid, stopWait)
		case <-time.After(50 * time.Millisecond):
		}
		if pid, err = embedded.Owner(dir); err != nil {
			return err
		}
	}
	return nil
}
