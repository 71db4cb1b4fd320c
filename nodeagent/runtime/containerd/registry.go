package containerd

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// resolver finds registries: where they are, how they are spoken to and who
// mirrors them is read anew from the registry directory for each pull.
func (r *Runtime) resolver(ctx context.Context, credential *rt.Credential, opened *transports) remotes.Resolver {
	options := config.HostOptions{UpdateClient: opened.prepare}
	if r.cfg.RegistryDir != "" {
		options.HostDir = config.HostDirFromRoot(r.cfg.RegistryDir)
	}
	if credential != nil {
		// Mirrors are as trusted as what they mirror: whoever set them up says so.
		options.Credentials = func(string) (username, secret string, err error) {
			return credential.Username, credential.Password, nil
		}
	}
	ctx = log.WithLogger(ctx, r.registryLog())
	hosts := config.ConfigureHosts(ctx, options)
	options.DefaultScheme = "http"
	plain := config.ConfigureHosts(ctx, options)
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(host string) ([]docker.RegistryHost, error) {
		if slices.Contains(r.cfg.PlainHTTP, host) {
			return plain(host)
		}
		return hosts(host)
	}})
}

// registryLog passes on what is wrong with a registry's configuration, which
// containerd's library says only there before it goes on without.
func (r *Runtime) registryLog() *log.Entry {
	logger := logrus.New()
	logger.SetLevel(logrus.ErrorLevel)
	logger.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true, DisableColors: true})
	logger.SetOutput(lineFunc(func(line string) {
		r.log.Warn("registry configuration not understood, and left out", "dir", r.cfg.RegistryDir, "problem", line)
	}))
	return logrus.NewEntry(logger)
}

type lineFunc func(string)

func (f lineFunc) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}

// transports are the connections of one pull.
type transports struct {
	mu     sync.Mutex
	opened []*http.Transport
}

// prepare bounds how long a registry may take to answer.
func (t *transports) prepare(c *http.Client) error {
	transport, ok := c.Transport.(*http.Transport)
	if !ok {
		return nil
	}
	transport.TLSHandshakeTimeout = 15 * time.Second
	transport.ResponseHeaderTimeout = time.Minute
	if transport.DialContext == nil {
		transport.DialContext = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, transport)
	return nil
}

func (t *transports) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, transport := range t.opened {
		transport.CloseIdleConnections()
	}
}

// meteredResolver counts what its fetchers bring.
type meteredResolver struct {
	remotes.Resolver
	transfer *transfer
	stop     context.CancelCauseFunc
}

func (m meteredResolver) Fetcher(ctx context.Context, ref string) (remotes.Fetcher, error) {
	fetcher, err := m.Resolver.Fetcher(ctx, ref)
	return meteredFetcher{fetcher, m.transfer, m.stop}, err
}
