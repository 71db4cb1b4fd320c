package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// Port is where the kubelet serves, and this server too if it can.
const Port = 10250

// Organisation is what the subject of a client's certificate must be of.
const Organisation = "evenkeel:apiserver"

// Run is one run of a container.
type Run struct {
	Log       logs.Container
	Running   bool
	StdinOnce bool // its input ends with the first who was attached
}

// Pods finds what a request names. An error is shown to who asked; one that
// wraps ErrNotFound says that there is none, others that it cannot be now.
type Pods interface {
	// Run returns the newest run of a container, or the one before that. uid may
	// be empty.
	Run(namespace, pod, uid, container string, previous bool) (Run, error)
	// Network returns the path of a pod's network namespace, of which empty is the
	// host's, and the pod's address in it.
	Network(namespace, pod, uid string) (netns string, address netip.Addr, err error)
	// List returns the node's pods with their statuses.
	List() *corev1.PodList
}

// ErrNotFound says that a pod or a container does not exist.
var ErrNotFound = errors.New("not found")

// Containers runs commands and feeds inputs. runtime.Runtime does.
type Containers interface {
	Stream(ctx context.Context, id string, command runtime.Command) (exitCode int, err error)
	Stdin(ctx context.Context, id string) (io.WriteCloser, error)
	CloseStdin(ctx context.Context, id string) error
	Resize(ctx context.Context, id string, size runtime.TerminalSize) error
}

// Logs shows what containers wrote. logs.Manager does.
type Logs interface {
	Read(ctx context.Context, c logs.Container, o logs.Options, stdout, stderr io.Writer) error
	Attach(ctx context.Context, c logs.Container, stdout, stderr io.Writer) error
}

// Stats measures the node.
type Stats interface {
	Summary(ctx context.Context) (*statsapi.Summary, error)
	WriteResourceMetrics(ctx context.Context, w io.Writer) error
}

// Config says what a server serves.
type Config struct {
	// Node is the node's name, for the certificate. Required.
	Node string
	// Address is "host:port"; port 0 takes any that is free. Empty: the node's
	// address and the kubelet's port or, if that is taken, a free one.
	Address string
	// NodeIP is the node's address. Required.
	NodeIP netip.Addr
	// Trust returns the PEM of the authority of clients' certificates; empty
	// while it is not known, when nobody may ask for anything but health.
	Trust func() []byte

	Pods       Pods
	Containers Containers
	Logs       Logs
	Stats      Stats
	// Gatherer is served as /metrics.
	Gatherer prometheus.Gatherer
	// Logger is required, as are all of the above.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("server config: Node is empty")
	case !c.NodeIP.IsValid():
		return errors.New("server config: NodeIP is not set")
	case c.Trust == nil, c.Pods == nil, c.Containers == nil, c.Logs == nil, c.Stats == nil, c.Gatherer == nil, c.Logger == nil:
		return errors.New("server config: Trust, Pods, Containers, Logs, Stats, Gatherer and Logger are required")
	}
	return nil
}

// Server listens from New on, and serves while Run runs.
type Server struct {
	cfg      Config
	listener net.Listener
	cert     tls.Certificate
	hash     string
	trust    trust

	mu    sync.Mutex
	conns map[*conn]struct{} // taken over by streams
}

// New listens.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cert, hash, err := makeCertificate(cfg.Node, cfg.NodeIP, time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	listener, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, listener: listener, cert: cert, hash: hash, trust: trust{pem: cfg.Trust}, conns: map[*conn]struct{}{}}, nil
}

func listen(cfg Config) (net.Listener, error) {
	if cfg.Address != "" {
		l, err := net.Listen("tcp", cfg.Address)
		if err != nil {
			return nil, fmt.Errorf("serve the node: %w (choose another with --server-address)", err)
		}
		return l, nil
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(cfg.NodeIP, Port).String())
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(cfg.NodeIP, 0).String())
	}
	if err != nil {
		return nil, fmt.Errorf("serve the node: %w", err)
	}
	return l, nil
}

// Port is where the server listens.
func (s *Server) Port() int32 {
	addr, _ := s.listener.Addr().(*net.TCPAddr)
	if addr == nil {
		return 0
	}
	return int32(addr.Port)
}

// CertificateHash names the server's certificate: "sha256:" and the
// hexadecimal digits of its DER's hash.
func (s *Server) CertificateHash() string { return s.hash }

// Run serves until ctx ends, which also ends what is being streamed.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       90 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send is no news
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{s.cert},
			MinVersion:   tls.VersionTLS12,
			// Who asks is judged for each request: health is everybody's.
			ClientAuth: tls.RequestClientCert,
			// Streams take connections over, which HTTP/2 has no way for.
			NextProtos: []string{"http/1.1"},
		},
	}
	var closing sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		defer closing.Done()
		_ = server.Close()
		s.closeStreams()
	})
	closing.Add(1)
	err := server.ServeTLS(s.listener, "", "")
	if stop() { // Serve ended by itself
		closing.Done()
		return fmt.Errorf("serve the node: %w", err)
	}
	closing.Wait()
	s.awaitStreams()
	return nil
}

// trust keeps the parsed authority for as long as its text is the same.
type trust struct {
	pem func() []byte

	mu   sync.Mutex
	text string
	pool *x509.CertPool
}

// authority returns nil while none is known.
func (t *trust) authority() *x509.CertPool {
	text := string(t.pem())
	t.mu.Lock()
	defer t.mu.Unlock()
	if text == t.text {
		return t.pool
	}
	t.text, t.pool = text, nil
	if pool := x509.NewCertPool(); pool.AppendCertsFromPEM([]byte(text)) {
		t.pool = pool
	}
	return t.pool
}
