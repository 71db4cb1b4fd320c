package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
	"github.com/evenkeel/evenkeel/reconciler/controller/manager"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver"
	"github.com/evenkeel/evenkeel/schema/apiserver/access"
	"github.com/evenkeel/evenkeel/schema/apiserver/agents"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// APIFlags say how the API is served.
type APIFlags struct {
	Address     string
	Writes      string
	Names       []string
	AuditLog    string
	AuditPolicy string
}

// apiOff is the address that means no API.
const apiOff = "off"

// AddAPIFlags adds the flags that say how the API is served.
func (f *APIFlags) AddAPIFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Address, "api-address", "127.0.0.1:6443", `address of the Kubernetes API, or "off"`)
	flags.StringVar(&f.Writes, "api-writes", "allow", "writes through the API to what a source declares: allow (with a warning; they are put back) or deny")
	flags.StringSliceVar(&f.Names, "api-san", nil, "further names and addresses that the API's certificate is good for")
	flags.StringVar(&f.AuditLog, "audit-log", "", "file of an audit log of the API, in Kubernetes' format")
	flags.StringVar(&f.AuditPolicy, "audit-policy", "", "file with the policy of what is logged, in Kubernetes' format (default: every change, without bodies)")
}

func (f *APIFlags) served() bool { return f.Address != apiOff && f.Address != "" }

func (f *APIFlags) validate() error {
	if f.Writes != "allow" && f.Writes != "deny" {
		return fmt.Errorf("--api-writes %q: must be allow or deny", f.Writes)
	}
	if f.AuditPolicy != "" && f.AuditLog == "" {
		return errors.New("--audit-policy: say with --audit-log where to")
	}
	return nil
}

// Kubeconfig is where the kubeconfig is written, "" if no API is served.
func (f *APIFlags) Kubeconfig(dataDir string) string {
	if !f.served() {
		return ""
	}
	return filepath.Join(dataDir, "kubeconfig")
}

// api is the API of this process.
type api struct {
	cfg       Config
	regs      *registry.Registries
	mirror    *registry.Mirror
	authority *pki.Authority
	access    *access.Access
	listen    listening
	serviceIP netip.Addr
}

// openAPI does all that can fail because of what somebody asked for; run
// serves.
func openAPI(ctx context.Context, cfg Config, regs *registry.Registries, mirror *registry.Mirror, serviceIP netip.Addr) (*api, error) {
	a := &api{cfg: cfg, regs: regs, mirror: mirror, serviceIP: serviceIP}
	var err error
	if a.listen, err = listen(ctx, cfg); err != nil {
		return nil, err
	}
	if a.authority, err = pki.Open(ctx, cfg.Store, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("authority of the API: %w", err), a.listen.close())
	}
	a.access, err = access.New(access.Config{Authority: a.authority, Objects: mirror, Read: regs.Get})
	if err != nil {
		return nil, errors.Join(err, a.listen.close())
	}
	return a, nil
}

// controllers is what the leader does for the API.
func (a *api) controllers() *manager.API {
	roles, bindings := access.Bootstrap()
	return &manager.API{RootCA: a.authority.Bundle(), Issue: a.access.Tokens.ForPod, Roles: roles, Bindings: bindings, IP: a.serviceIP}
}

// run serves until ctx ends.
func (a *api) run(ctx context.Context) error {
	server, reached, err := a.server()
	if err != nil {
		return errors.Join(err, a.listen.close())
	}
	defer reached.Close()
	path := a.cfg.API.Kubeconfig(a.cfg.DataDir)
	failed := func(err error) { a.cfg.Logger.Warn("no kubeconfig; print one with reconcile kubeconfig", "error", err) }
	if err := a.authority.WriteKubeconfig(path, a.listen.server.URL); err != nil {
		failed(err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error { return a.register(ctx) })
	g.Go(func() error {
		a.authority.KeepKubeconfig(ctx, path, a.listen.server.URL, failed)
		return nil
	})
	return g.Wait()
}

func (a *api) server() (*apiserver.Server, *agents.Agents, error) {
	certificate, err := a.authority.Serve(a.listen.names, append(a.listen.addresses, a.serviceIP))
	if err != nil {
		return nil, nil, err
	}
	clients, err := a.authority.ClientCA()
	if err != nil {
		return nil, nil, err
	}
	reached := agents.New(a.authority, a.mirror.NodeStatus)
	owners := owners{mirror: a.mirror, sources: sourceNames(a.cfg.Sources)}
	cfg := apiserver.Config{
		Registries: a.regs, Mirror: a.mirror, Unmirrored: []*schema.Kind{schema.Events},
		Listeners: a.listen.listeners, Certificate: certificate, ClientCA: clients,
		Authenticator: a.access.Authenticator, Audiences: access.Audiences, Authorizer: a.access.Authorizer, Rules: a.access.Rules,
		Admission: a.access.Guard, Kubelet: reached.Reach, Token: a.access.Tokens.Request, Issuer: a.access.Issuer,
		Owned: owners.sentences, DenyOwned: a.cfg.API.Writes == "deny", Logger: slog.New(quiet{a.cfg.Logger.Handler()}),
	}
	if a.cfg.API.AuditLog != "" {
		if cfg.Audit, cfg.AuditPolicy, err = access.Audit(a.cfg.API.AuditLog, a.cfg.API.AuditPolicy); err != nil {
			return nil, nil, err
		}
	}
	server, err := apiserver.New(cfg)
	return server, reached, err
}

// serverTTL is how long others still count on a server that died.
const serverTTL = 15 * time.Second

// register says where this server listens for as long as ctx goes on.
func (a *api) register(ctx context.Context) error {
	value, err := json.Marshal(a.listen.server)
	if err != nil {
		return err
	}
	key := apiservice.ServerKey(strings.ReplaceAll(processID(), "/", "-"))
	for ctx.Err() == nil {
		if err := registerOnce(ctx, a.cfg.Store, registry.Put(key, value)); err != nil && ctx.Err() == nil {
			a.cfg.Logger.Warn("api server not registered, will be tried again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func registerOnce(ctx context.Context, store registry.Store, op registry.Op) error {
	lease, err := store.Grant(ctx, serverTTL)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = store.Revoke(end, lease) // it runs out by itself otherwise
	}()
	op.Lease = lease
	if _, err := store.Commit(ctx, registry.Txn{Ops: []registry.Op{op}}); err != nil {
		return err
	}
	return registry.HoldLease(ctx, store, lease, serverTTL)
}

// firstAddress is the address of the service kubernetes: the first of the
// range, as Kubernetes has it.
func firstAddress(services netip.Prefix) netip.Addr { return services.Masked().Addr().Next() }
