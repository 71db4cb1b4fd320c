// Package embedded runs a one-member etcd inside the process, for a cluster of
// one machine. Only this machine's root reaches it: it listens on a Unix socket
// in a directory of mode 0700, and the process itself goes past the network.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// Config says where an embedded etcd keeps its data.
type Config struct {
	Dir          string        // made with mode 0700 if it is missing
	StartTimeout time.Duration // default 30 s
	NoSync       bool          // leave out fsync: for tests and benchmarks that may lose data
	Logger       *slog.Logger  // etcd's warnings and errors; required
}

// Server is a running embedded etcd.
type Server struct {
	etcd    *embed.Etcd
	client  *clientv3.Client
	streams streams
	lock    *os.File
	logs    *slogCore
}

// ErrInUse is the error of Start for a directory that another process runs an
// etcd in.
var ErrInUse = errors.New("in use by another process")

// SocketPath is where the etcd of a data directory listens. The path of a
// deep directory is too long for a Unix socket (108 bytes); Start says so.
func SocketPath(dir string) string { return filepath.Join(dir, "etcd.sock") }

// Endpoint is the etcd endpoint of a data directory, for other processes of
// the same user.
func Endpoint(dir string) string { return "unix://" + SocketPath(dir) }

// Start opens or makes the data in cfg.Dir and returns when the server answers.
// The caller calls Close.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	if len(SocketPath(dir)) > 107 {
		return nil, fmt.Errorf("etcd data directory %s: path too long for a Unix socket (at most 97 bytes); choose a shorter one", dir)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	srv, err := start(ctx, dir, cfg)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	srv.lock = lock
	return srv, nil
}

func takeLock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(lock.Name())
		lock.Close()
		return nil, fmt.Errorf("etcd data directory %s: %w (pid %s)", dir, ErrInUse, strings.TrimSpace(string(owner)))
	}
	if err := lock.Truncate(0); err != nil {
		lock.Close()
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	fmt.Fprintf(lock, "%d\n", os.Getpid())
	return lock, nil
}

func start(ctx context.Context, dir string, cfg Config) (*Server, error) {
	socket := SocketPath(dir)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	logs := &slogCore{logger: cfg.Logger.With("component", "etcd"), quiet: &atomic.Bool{}}
	ec, streams := configFor(dir, socket, cfg, logs), newStreams()
	ec.GRPCAdditionalServerOptions = []grpc.ServerOption{streams.option()}
	server, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, err
	}
	timeout := cfg.StartTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-server.Server.ReadyNotify():
		return &Server{etcd: server, client: v3client.New(server.Server), streams: streams, logs: logs}, nil
	case err = <-server.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("not ready after %v", timeout)
	}
	server.Close()
	return nil, err
}

// configFor keeps memory and idle work low: few entries held for followers
// that do not exist, compaction on, room for 8 GiB.
func configFor(dir, socket string, cfg Config, logs *slogCore) *embed.Config {
	ec := embed.NewConfig()
	ec.Name = "evenkeel"
	ec.Dir = filepath.Join(dir, "data")
	client := url.URL{Scheme: "unix", Path: socket}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer.sock")}
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	ec.ListenPeerUrls = nil
	ec.AdvertisePeerUrls = []url.URL{peer}
	ec.InitialCluster = ec.Name + "=" + peer.String()
	ec.SnapshotCount = 5000
	ec.SnapshotCatchUpEntries = 500
	ec.ElectionMs = 500
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "10m"
	ec.QuotaBackendBytes = 8 << 30
	ec.UnsafeNoFsync = cfg.NoSync
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(logs))
	return ec
}

// Client goes to the server without a network. It is closed by Close.
func (s *Server) Client() *clientv3.Client { return s.client }

// Err delivers the error that ended the server, if one does.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and returns when its data is on disk.
func (s *Server) Close() error {
	s.logs.quiet.Store(true)
	s.streams.end()
	err := s.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	s.etcd.Close()
	return errors.Join(err, s.lock.Close())
}

// slogCore passes etcd's warnings and errors on to slog, a level lower: what
// stops etcd is an error that Start or Err returns.
type slogCore struct {
	logger *slog.Logger
	fields []zapcore.Field
	quiet  *atomic.Bool // closing: etcd complains of its own closed sockets
}

// Enabled implements zapcore.Core.
func (c *slogCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel && !c.quiet.Load()
}

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{logger: c.logger, quiet: c.quiet, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core.
func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(enc)
	}
	level := slog.LevelInfo
	if entry.Level > zapcore.WarnLevel {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.logger.LogAttrs(context.Background(), level, entry.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (c *slogCore) Sync() error { return nil }

// Owner returns the process that runs an etcd in a directory, or 0.
func Owner(dir string) (pid int, err error) {
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("etcd data directory: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
		return 0, nil
	}
	if _, err := fmt.Fscan(lock, &pid); err != nil {
		return 0, fmt.Errorf("etcd data directory %s: %w, and its lock names no process", dir, ErrInUse)
	}
	return pid, nil
}
