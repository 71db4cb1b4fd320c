// Command proxy serves the services on this machine, and their names.
package main

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/cmd/internal/command"
	"github.com/evenkeel/evenkeel/cmd/internal/machine"
	"github.com/evenkeel/evenkeel/cmd/internal/services"
)

func main() { os.Exit(command.Main(newCommand())) }

func newCommand() *cobra.Command {
	var (
		logging command.Logging
		monitor command.Monitor
		etcd    backend.Flags
		flags   services.Flags
		name    string
		ip      string
		cfg     services.Config
	)
	cmd := &cobra.Command{
		Use:   "proxy --etcd host:port [flags]",
		Short: "Serve services and their names on this machine",
		Long: `proxy makes cluster IPs and node ports reachable on this machine and answers
pods' questions for names. With nftables the kernel goes on forwarding while
proxy is stopped, killed or restarted.`,
		Example: `  proxy --etcd 10.0.0.1:2379
  proxy --etcd 10.0.0.1:2379 --proxy-mode userspace`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logging.Logger()
			if err != nil {
				return err
			}
			if name, ip, err = machine.Identity(name, ip); err != nil {
				return err
			}
			store, closeStore, err := etcd.Open(cmd.Context(), logger)
			if err != nil {
				return err
			}
			defer closeStore()
			cfg.Flags, cfg.Node, cfg.Store, cfg.Logger, cfg.Registerer = flags, name, store, logger, monitor.Registry
			if cfg.NodeIP, err = netip.ParseAddr(ip); err != nil {
				return fmt.Errorf("--node-ip: %w", err)
			}
			logger.Info("proxy runs", "node", name, "mode", flags.Mode)
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return services.Run(ctx, cfg) })
			g.Go(func() error { return command.Settle(ctx) })
			g.Go(func() error { return monitor.Run(ctx, logger, func() error { return nil }) })
			return g.Wait()
		},
	}
	logging.AddFlags(cmd, "info")
	monitor.AddFlags(cmd, "127.0.0.1:7402")
	etcd.AddFlags(cmd)
	flags.AddFlags(cmd)
	cmd.Flags().StringVar(&name, "node-name", "", "name of the node (default: the host's name)")
	cmd.Flags().StringVar(&ip, "node-ip", "", "address at which other nodes reach this one (default: that of the default route)")
	cmd.Flags().StringVar(&cfg.DNS, "dns-address", machine.DefaultDNS, "address of the name server for pods; empty for none")
	cmd.Flags().StringVar(&cfg.Domain, "cluster-domain", "cluster.local", "domain of services")
	return cmd
}
