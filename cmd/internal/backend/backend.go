// Package backend reaches etcd for the programs: by the --etcd flags, or the
// one embedded under a data directory.
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
)

// Flags say where etcd is.
type Flags struct {
	Endpoints     []string
	CA, Cert, Key string
}

// AddFlags adds the flags.
func (f *Flags) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.Endpoints, "etcd", nil, "etcd endpoints: host:port, http(s)://host:port or unix:///path, separated by commas")
	cmd.Flags().StringVar(&f.CA, "etcd-ca", "", "file with the CA that etcd's certificates are checked against")
	cmd.Flags().StringVar(&f.Cert, "etcd-cert", "", "file with the client certificate for etcd")
	cmd.Flags().StringVar(&f.Key, "etcd-key", "", "file with the key of --etcd-cert")
}

// Given reports whether --etcd was.
func (f *Flags) Given() bool { return len(f.Endpoints) > 0 }

// Open connects. An etcd that does not answer yet is waited for, with a line in
// the log, until ctx ends: after a power cut all machines start at once. The
// caller calls closeClient.
func (f *Flags) Open(ctx context.Context, logger *slog.Logger) (store registry.Store, closeClient func() error, err error) {
	store, closeClient, err = f.Connect()
	if err != nil {
		return nil, nil, err
	}
	if err := f.Await(ctx, store, logger); err != nil {
		return nil, nil, errors.Join(err, closeClient())
	}
	return store, closeClient, nil
}

// Connect returns a store whose etcd need not answer yet. The caller calls
// closeClient.
func (f *Flags) Connect() (store registry.Store, closeClient func() error, err error) {
	if !f.Given() {
		return nil, nil, errors.New("--etcd is needed: host:port of the cluster's etcd")
	}
	config := clientv3.Config{
		Endpoints: f.Endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	}
	if config.TLS, err = f.tls(); err != nil {
		return nil, nil, err
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, nil, fmt.Errorf("etcd %s: %w", strings.Join(f.Endpoints, ","), err)
	}
	return etcd.NewStore(client), client.Close, nil
}

// Await blocks until etcd answers, with a line in the log for each try, or ctx
// ends, which is an error.
func (f *Flags) Await(ctx context.Context, store registry.Store, logger *slog.Logger) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := store.Get(attempt, schema.Root)
		cancel()
		if err == nil || errors.Is(err, registry.ErrNotFound) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("etcd %s does not answer: %w", strings.Join(f.Endpoints, ","), err)
		}
		logger.Warn("etcd does not answer, waiting for it; is it running, and are the --etcd flags right?", "etcd", f.Endpoints, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (f *Flags) tls() (*tls.Config, error) {
	if f.CA == "" && f.Cert == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-ca: no certificate in %s", f.CA)
		}
	}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cert, --etcd-key: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}
