// Package backend reaches etcd for the programs: by the --etcd flags, or the
// one embedded under a data directory.
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

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

// Open connects and makes sure that etcd answers, within a few seconds. The
// caller calls close.
func (f *Flags) Open(ctx context.Context) (store registry.Store, closeClient func() error, err error) {
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
	store = etcd.NewStore(client)
	first, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := store.Get(first, "/registry/any"); err != nil && !errors.Is(err, registry.ErrNotFound) {
		_ = client.Close()
		return nil, nil, fmt.Errorf("etcd %s does not answer: is it running, and are the --etcd flags right? %w", strings.Join(f.Endpoints, ","), err)
	}
	return store, client.Close, nil
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
