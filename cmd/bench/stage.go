package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
	"github.com/evenkeel/evenkeel/testdata/images"
)

const (
	echoImage = "evenkeel.io/echo:1"
	benchNode = "bench"
)

// stage is a running `reconcile up` on a git repository, with the state in
// view.
type stage struct {
	bin, dir, repo, archive string
	etcd                    string // directory of the embedded etcd
	up                      *exec.Cmd
	client                  *clientv3.Client
	mirror                  *registry.Mirror
	cancel                  context.CancelFunc
	done                    chan error
}

// containerd is the private daemon's socket, so that both sides have the same.
func (s *stage) containerd() string {
	return filepath.Join(s.dir, "data", "containerd", "containerd.sock")
}

func (s *stage) place() []string {
	return []string{
		"--node-name", benchNode, "--data-dir", filepath.Join(s.dir, "data"), "--run-dir", filepath.Join(s.dir, "run"),
		"--log-dir", filepath.Join(s.dir, "log"),
	}
}

func startStage(ctx context.Context, bin string) (*stage, error) {
	dir, err := os.MkdirTemp("", "ekb")
	if err != nil {
		return nil, err
	}
	s := newStage(bin, dir)
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func newStage(bin, dir string) *stage {
	return &stage{
		bin: bin, dir: dir, repo: filepath.Join(dir, "repo"), archive: filepath.Join(dir, "images", "echo.tar"),
		etcd: filepath.Join(dir, "data", "etcd"),
	}
}

// fill makes an empty repository and the image of the pods.
func (s *stage) fill(ctx context.Context) error {
	for _, sub := range []string{"repo", "images"} {
		if err := os.Mkdir(filepath.Join(s.dir, sub), 0o755); err != nil {
			return err
		}
	}
	if err := images.Build(ctx, "./testdata/echo/src", echoImage, s.archive); err != nil {
		return err
	}
	if err := s.git("init", "-q"); err != nil {
		return err
	}
	return s.git("commit", "-q", "--allow-empty", "-m", "empty")
}

func (s *stage) start(ctx context.Context) error {
	if err := s.fill(ctx); err != nil {
		return err
	}
	args := append([]string{"up", "--eviction-hard=", "--image-gc-high-threshold=100", "--listen", "", "--dns-address", "", "--max-delete", "100%", "--images", filepath.Dir(s.archive)}, s.place()...)
	s.up = exec.Command(filepath.Join(s.bin, "reconcile"), append(args, s.repo)...)
	s.up.Stderr = os.Stderr
	if err := s.up.Start(); err != nil {
		return err
	}
	return s.view(ctx)
}

// view follows the state of the embedded etcd.
func (s *stage) view(ctx context.Context) error {
	endpoint := embedded.Endpoint(s.etcd)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	s.client = client
	s.mirror = registry.NewMirror(registry.MirrorConfig{Store: etcd.NewStore(client), Logger: slog.New(slog.DiscardHandler)})
	ctx, s.cancel = context.WithCancel(ctx)
	s.done = make(chan error, 1)
	go func() { s.done <- s.mirror.Run(ctx) }()
	select {
	case <-s.mirror.Synced():
		return nil
	case <-time.After(time.Minute):
		return errors.New("reconcile up did not come up within a minute")
	}
}

// close stops everything and removes it.
func (s *stage) close() error {
	var errs []error
	if s.cancel != nil {
		s.cancel()
		errs = append(errs, <-s.done, s.client.Close())
	}
	if s.up != nil && s.up.Process != nil {
		errs = append(errs, s.up.Process.Signal(syscall.SIGTERM), s.up.Wait())
		out, err := exec.Command(filepath.Join(s.bin, "reconcile"), append([]string{"down"}, s.place()...)...).CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("reconcile down: %w: %s", err, out))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
