// Package manager runs the scheduler and all controllers together, for as long
// as this process leads. It decides nothing itself. cmd/reconcile calls it.
package manager

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
	"github.com/evenkeel/evenkeel/reconciler/controller/binder"
	"github.com/evenkeel/evenkeel/reconciler/controller/endpoints"
	"github.com/evenkeel/evenkeel/reconciler/controller/ephemeral"
	"github.com/evenkeel/evenkeel/reconciler/controller/eviction"
	"github.com/evenkeel/evenkeel/reconciler/controller/garbage"
	"github.com/evenkeel/evenkeel/reconciler/controller/mirrorpods"
	"github.com/evenkeel/evenkeel/reconciler/controller/namespaces"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodelife"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodeview"
	"github.com/evenkeel/evenkeel/reconciler/controller/replication"
	"github.com/evenkeel/evenkeel/reconciler/controller/roles"
	"github.com/evenkeel/evenkeel/reconciler/controller/serviceaccounts"
	"github.com/evenkeel/evenkeel/reconciler/controller/tokens"
	"github.com/evenkeel/evenkeel/reconciler/scheduler"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config says what the controllers work on.
type Config struct {
	Registries *registry.Registries // fenced by the leader's term; required
	Mirror     *registry.Mirror     // of all of schema.Root, running; required
	Recorder   controller.Recorder  // required; a *registry.Recorder that runs
	Logger     *slog.Logger         // required
	Registerer prometheus.Registerer
	PodCIDR    netip.Prefix  // default nodelife.DefaultPodCIDR
	EvictAfter time.Duration // default eviction.DefaultEvictAfter, which is nodelife's
	API        *API          // nil: no API is served
}

// API is what the controllers do where an API is served; all is required.
type API struct {
	RootCA   []byte                       // PEM of the authority that its certificates are of
	Issue    tokens.Issue                 // makes tokens of service accounts
	Roles    []*rbacv1.ClusterRole        // of every cluster
	Bindings []*rbacv1.ClusterRoleBinding // of every cluster
	IP       netip.Addr                   // of the service kubernetes
}

func (c *Config) validate() error {
	if c.Registries == nil || c.Mirror == nil || c.Recorder == nil || c.Logger == nil {
		return fmt.Errorf("manager: Registries, Mirror, Recorder and Logger are required")
	}
	return nil
}

// Run runs everything until ctx ends (nil), or until one of them ends with an
// error, which ends all: registry.ErrFenced when this process leads no more.
// It may be called again for a later term.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	metrics, err := controller.NewMetrics(cfg.Registerer)
	if err != nil {
		return err
	}
	defer metrics.Close()
	g, ctx := errgroup.WithContext(ctx)
	for name, run := range parts(cfg, metrics) {
		g.Go(func() error {
			if err := run(ctx); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// parts are the scheduler and the controllers, by name.
func parts(cfg Config, metrics *controller.Metrics) map[string]func(context.Context) error {
	writer := controller.Writer{Registries: cfg.Registries, Mirror: cfg.Mirror}
	logger := func(part string) *slog.Logger { return cfg.Logger.With("part", part) }
	trust := ""
	if cfg.API != nil {
		trust = string(cfg.API.RootCA)
	}
	all := map[string]func(context.Context) error{
		"scheduler": func(ctx context.Context) error {
			return scheduler.Run(ctx, scheduler.Config{
				Mirror: cfg.Mirror, Registries: cfg.Registries, Recorder: cfg.Recorder, Logger: logger("scheduler"), Registerer: cfg.Registerer,
			})
		},
		"replication": func(ctx context.Context) error {
			return replication.Run(ctx, replication.Config{Writer: writer, Recorder: cfg.Recorder, Metrics: metrics, Logger: logger("replication")})
		},
		"nodelife": func(ctx context.Context) error {
			return nodelife.Run(ctx, nodelife.Config{
				Writer: writer, Recorder: cfg.Recorder, Metrics: metrics, Logger: logger("nodelife"), PodCIDR: cfg.PodCIDR, EvictAfter: cfg.EvictAfter,
			})
		},
		"eviction": func(ctx context.Context) error {
			return eviction.Run(ctx, eviction.Config{Writer: writer, Recorder: cfg.Recorder, Metrics: metrics, Logger: logger("eviction"), EvictAfter: cfg.EvictAfter})
		},
		"binder": func(ctx context.Context) error {
			return binder.Run(ctx, binder.Config{Writer: writer, Recorder: cfg.Recorder, Metrics: metrics, Logger: logger("binder")})
		},
		"ephemeral": func(ctx context.Context) error {
			return ephemeral.Run(ctx, ephemeral.Config{Writer: writer, Recorder: cfg.Recorder, Metrics: metrics, Logger: logger("ephemeral")})
		},
		"endpoints": func(ctx context.Context) error {
			return endpoints.Run(ctx, endpoints.Config{Writer: writer, Metrics: metrics, Logger: logger("endpoints")})
		},
		"garbage": func(ctx context.Context) error {
			return garbage.Run(ctx, garbage.Config{Writer: writer, Metrics: metrics, Logger: logger("garbage")})
		},
		"mirrorpods": func(ctx context.Context) error {
			return mirrorpods.Run(ctx, mirrorpods.Config{Writer: writer, Metrics: metrics, Logger: logger("mirrorpods")})
		},
		"namespaces": func(ctx context.Context) error {
			return namespaces.Run(ctx, namespaces.Config{Writer: writer, Metrics: metrics, Logger: logger("namespaces")})
		},
		"nodeview": func(ctx context.Context) error {
			return nodeview.Run(ctx, nodeview.Config{Writer: writer, Trust: trust, Metrics: metrics, Logger: logger("nodeview")})
		},
	}
	if cfg.API != nil {
		maps.Copy(all, cfg.API.parts(writer, metrics, logger))
	}
	return all
}

// parts are the controllers that there are for the API alone.
func (api *API) parts(writer controller.Writer, metrics *controller.Metrics, logger func(string) *slog.Logger) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"apiservice": func(ctx context.Context) error {
			return apiservice.Run(ctx, apiservice.Config{Writer: writer, IP: api.IP, Metrics: metrics, Logger: logger("apiservice")})
		},
		"roles": func(ctx context.Context) error {
			return roles.Run(ctx, roles.Config{Writer: writer, Roles: api.Roles, Bindings: api.Bindings, Metrics: metrics, Logger: logger("roles")})
		},
		"serviceaccounts": func(ctx context.Context) error {
			return serviceaccounts.Run(ctx, serviceaccounts.Config{
				Writer: writer, RootCA: func() []byte { return api.RootCA }, Metrics: metrics, Logger: logger("serviceaccounts"),
			})
		},
		"tokens": func(ctx context.Context) error {
			return tokens.Run(ctx, tokens.Config{Writer: writer, Issue: api.Issue, Metrics: metrics, Logger: logger("tokens")})
		},
	}
}
