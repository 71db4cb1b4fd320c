package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/evenkeel/evenkeel/cmd/internal/backend"
	"github.com/evenkeel/evenkeel/reconciler/controller/apiservice"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// kubeconfig is `reconcile kubeconfig`.
type kubeconfig struct {
	etcd    backend.Flags
	dataDir string
	server  string
	user    string
	groups  []string
	life    time.Duration
}

func newKubeconfig() *cobra.Command {
	k := &kubeconfig{}
	cmd := &cobra.Command{
		Use:   "kubeconfig > FILE",
		Short: "Print a kubeconfig for kubectl",
		Long: `kubeconfig prints what kubectl needs to reach the API: its address, whom to
trust, and a certificate made for it. Without --user the certificate is of an
administrator. What another user or group may do is said by roles and bindings.

It needs the cluster's etcd, which only administrators reach.`,
		Example: `  reconcile kubeconfig > ~/.kube/config
  reconcile kubeconfig --etcd 10.0.0.1:2379 --server https://10.0.0.1:6443
  reconcile kubeconfig --user ada --group dev --ttl 8h > ada.kubeconfig`,
		Args: cobra.NoArgs,
		RunE: k.run,
	}
	k.etcd.AddFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&k.dataDir, "data-dir", "/var/lib/evenkeel", "where `reconcile up` keeps its data; used without --etcd")
	flags.StringVar(&k.server, "server", "", "URL of the API (default: that of one that runs)")
	flags.StringVar(&k.user, "user", "", "name of the user (default: an administrator)")
	flags.StringSliceVar(&k.groups, "group", nil, "groups that --user is in")
	flags.DurationVar(&k.life, "ttl", pki.AdminLife, "how long the certificate is good for")
	return cmd
}

func (k *kubeconfig) run(cmd *cobra.Command, _ []string) error {
	subject := pki.Admin
	switch {
	case k.user != "":
		subject = pki.Subject{Name: k.user, Groups: k.groups}
	case len(k.groups) > 0:
		return errors.New("--group: say with --user who is in it")
	}
	if k.life <= 0 {
		return fmt.Errorf("--ttl %v: must be more than nothing", k.life)
	}
	remote := k.etcd.Given()
	if err := findEmbedded(&k.etcd, k.dataDir); err != nil {
		return err
	}
	store, closeStore, err := k.etcd.Open(cmd.Context(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer closeStore()
	server := k.server
	if server == "" {
		if server, err = findServer(cmd.Context(), store, remote); err != nil {
			return err
		}
	}
	authority, err := pki.Open(cmd.Context(), store, nil)
	if err != nil {
		return err
	}
	text, err := authority.Kubeconfig(server, subject, k.life)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// findServer is the URL of an API server that runs. From elsewhere it must not
// be one on its machine's loopback.
func findServer(ctx context.Context, store registry.Store, remote bool) (string, error) {
	kvs, _, err := store.List(ctx, schema.APIServersPrefix, 0)
	if err != nil {
		return "", err
	}
	loopback := ""
	for _, kv := range kvs {
		server, err := apiservice.ParseServer(kv)
		if err != nil {
			return "", err
		}
		if remote && onLoopback(server.URL) {
			loopback = server.URL
			continue
		}
		return server.URL, nil
	}
	if loopback != "" {
		return "", fmt.Errorf("the API is served on the loopback address of its machine only (%s): start it with --api-address, or give --server", loopback)
	}
	return "", errors.New("no API server runs; give its URL with --server")
}

func onLoopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback() || u.Hostname() == "localhost"
}
