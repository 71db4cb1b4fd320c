// Package services puts a machine's proxy together: services and endpoint
// slices from the registries, a backend, and the name server. The proxy
// program and `reconcile up` call it.
package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/evenkeel/evenkeel/proxy"
	"github.com/evenkeel/evenkeel/proxy/dns"
	"github.com/evenkeel/evenkeel/proxy/nftables"
	"github.com/evenkeel/evenkeel/proxy/userspace"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Flags say how services are served.
type Flags struct {
	Mode     string
	Upstream []string
}

// AddFlags adds the flags.
func (f *Flags) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Mode, "proxy-mode", "nftables", "how services are served: nftables, or userspace for kernels without it")
	cmd.Flags().StringSliceVar(&f.Upstream, "dns-upstream", nil, "name servers (ip:port) for names outside the cluster (default: those of /etc/resolv.conf)")
}

// Config says for which node services are served.
type Config struct {
	Flags
	Node       string
	NodeIP     netip.Addr
	DNS        string // address of the name server; empty for none
	Domain     string
	Store      registry.Store
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c Config) backend() (proxy.Backend, error) {
	switch c.Mode {
	case "nftables":
		backend, err := nftables.New(nftables.Config{Node: c.Node, Logger: c.Logger})
		if err != nil {
			return nil, fmt.Errorf("nftables: %w (a kernel without it: --proxy-mode userspace)", err)
		}
		return backend, nil
	case "userspace":
		return userspace.New(userspace.Config{Logger: c.Logger})
	}
	return nil, fmt.Errorf("--proxy-mode %q: must be nftables or userspace", c.Mode)
}

// Run serves services and names until ctx ends. What the kernel forwards goes
// on being forwarded afterwards.
func Run(ctx context.Context, cfg Config) error {
	backend, err := cfg.backend()
	if err != nil {
		return err
	}
	mirror := registry.NewMirror(registry.MirrorConfig{
		Store: cfg.Store, Logger: cfg.Logger,
		Prefixes: []string{schema.Services.Prefix(""), schema.EndpointSlices.Prefix("")},
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return mirror.Run(ctx) })
	g.Go(func() error {
		source := newSource(mirror)
		defer source.sub.Close()
		return proxy.Run(ctx, proxy.Config{
			Node: cfg.Node, NodeIPs: []netip.Addr{cfg.NodeIP}, Source: source, Backend: backend,
			Logger: cfg.Logger, Registerer: cfg.Registerer,
		})
	})
	if cfg.DNS != "" {
		server, err := cfg.nameServer(mirror)
		if err != nil {
			return err
		}
		g.Go(func() error { return server.Run(ctx) })
	}
	return g.Wait()
}

func (c Config) nameServer(mirror *registry.Mirror) (*dns.Server, error) {
	ip, err := netip.ParseAddr(c.DNS)
	if err != nil {
		return nil, fmt.Errorf("--dns-address: %w", err)
	}
	if err := dns.AddAddress(ip); err != nil {
		return nil, err
	}
	server, err := dns.New(dns.Config{
		Listen: []string{net.JoinHostPort(c.DNS, "53")}, ClusterDomain: c.Domain, Source: newSource(mirror),
		Upstreams: c.Upstream, Logger: c.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("name server: %w (another one on that address? choose --dns-address)", err)
	}
	return server, nil
}

// Cleanup removes all that Run ever made on this machine for a node.
func Cleanup(ctx context.Context, node string, logger *slog.Logger) error {
	var errs []error
	if backend, err := nftables.New(nftables.Config{Node: node, Logger: logger}); err == nil {
		errs = append(errs, backend.Cleanup(ctx))
	}
	if backend, err := userspace.New(userspace.Config{Logger: logger}); err == nil {
		errs = append(errs, backend.Cleanup(ctx))
	}
	return errors.Join(append(errs, dns.RemoveAddresses())...)
}

// source is a proxy.Source on a mirror.
type source struct {
	mirror *registry.Mirror
	sub    *registry.Subscription
}

func newSource(mirror *registry.Mirror) *source {
	return &source{mirror: mirror, sub: mirror.Subscribe(schema.Services, schema.EndpointSlices)}
}

// Snapshot implements proxy.Source.
func (s *source) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice, bool) {
	s.sub.Take()
	select {
	case <-s.mirror.Synced():
	default:
		return nil, nil, false
	}
	return registry.ListOf[*corev1.Service](s.mirror, schema.Services, ""),
		registry.ListOf[*discoveryv1.EndpointSlice](s.mirror, schema.EndpointSlices, ""), true
}

// Changed implements proxy.Source.
func (s *source) Changed() <-chan struct{} { return s.sub.Ready() }
