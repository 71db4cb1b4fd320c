// Command nodeagent runs the pods that are bound to this machine.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/node"
)

func main() { os.Exit(command.Main(newCommand())) }

func newCommand() *cobra.Command {
	var (
		logging command.Logging
		monitor command.Monitor
		etcd    backend.Flags
		flags   node.Flags
	)
	cmd := &cobra.Command{
		Use:   "nodeagent --etcd host:port [flags]",
		Short: "Run the pods that are bound to this machine",
		Long: `nodeagent registers this machine as a node, watches its own bindings in etcd
and runs the pods on containerd. Stopping or killing it stops no container;
the next one takes them over. While etcd is away, also after a reboot, it runs
the pods that it last knew. With --static-pods it also runs pods of its own, and
without --etcd those alone. To remove all that it made, run
` + "`reconcile down`" + ` with the same --node-name, --data-dir and --run-dir.`,
		Example: `  nodeagent --etcd 10.0.0.1:2379
  nodeagent --etcd 10.0.0.1:2379 --node-name edge-7 --node-labels site=oslo
  nodeagent --etcd 10.0.0.1:2379 --images /srv/images
  nodeagent --static-pods /etc/evenkeel/pods   # alone, with no control plane`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logging.Logger()
			if err != nil {
				return err
			}
			if err := flags.Complete(); err != nil {
				return err
			}
			if flags.Standalone = !etcd.Given() && len(flags.StaticPods) > 0; flags.Standalone {
				return alone(cmd.Context(), flags, monitor, logger)
			}
			// Without etcd the node goes on with its checkpoint.
			store, closeStore, err := etcd.Connect()
			if err != nil {
				return err
			}
			defer closeStore()
			n, err := node.Open(cmd.Context(), flags, logger)
			if err != nil {
				return err
			}
			defer n.Close()
			logger.Info("node agent runs", "node", flags.Name, "address", flags.IP)
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error {
				if err := etcd.Await(ctx, store, logger); err != nil && ctx.Err() == nil {
					return err
				}
				return nil
			})
			g.Go(func() error { return n.Run(ctx, store, monitor.Registry) })
			g.Go(func() error { return command.Settle(ctx) })
			g.Go(func() error { return monitor.Run(ctx, logger, func() error { return nil }) })
			return g.Wait()
		},
	}
	logging.AddFlags(cmd, "info")
	monitor.AddFlags(cmd, "127.0.0.1:7401")
	etcd.AddFlags(cmd)
	flags.AddFlags(cmd)
	cmd.Flags().StringVar(&flags.PodCIDR, "pod-cidr", "10.244.0.0/24", "addresses of pods for as long as no control plane has given another range")
	cmd.Flags().StringVar(&flags.ServiceCIDR, "service-cidr", "10.96.0.0/16", "range of cluster IPs, as the control plane has it")
	return cmd
}

// alone runs the node's own pods without any control plane.
func alone(ctx context.Context, flags node.Flags, monitor command.Monitor, logger *slog.Logger) error {
	flags.DNS = "" // nobody serves it
	n, err := node.Open(ctx, flags, logger)
	if err != nil {
		return err
	}
	defer n.Close()
	logger.Info("node agent runs without a control plane", "node", flags.Name, "static-pods", flags.StaticPods)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Run(ctx, eventLog{logger}, monitor.Registry) })
	g.Go(func() error { return command.Settle(ctx) })
	g.Go(func() error { return monitor.Run(ctx, logger, func() error { return nil }) })
	return g.Wait()
}
