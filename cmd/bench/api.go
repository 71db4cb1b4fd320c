package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/etcd"
	"github.com/evenkeel/evenkeel/schema/registry/etcd/embedded"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// served is a `reconcile` that serves the API of an etcd in this process, so
// that what it uses is what the API and the control plane use.
type served struct {
	dir      string
	etcd     *embedded.Server
	regs     *registry.Registries
	program  *exec.Cmd
	kube     *kubernetes.Clientset
	client   *http.Client // leaves answers compressed or not as the server sends them
	url      string
	programs string // directory of them
}

func startServed(ctx context.Context, bin string) (*served, error) {
	dir, err := os.MkdirTemp("", "ekb")
	if err != nil {
		return nil, err
	}
	s := &served{dir: dir, programs: bin}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *served) start(ctx context.Context) error {
	var err error
	s.etcd, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(s.dir, "etcd"), NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	s.regs = registry.New(etcd.NewStore(s.etcd.Client()), registry.Config{Validator: validation.Rules{}})
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if s.program, err = s.reconcile(address); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.connect(ctx)
}

// reconcile starts the program with the API at an address, or "off".
func (s *served) reconcile(address string) (*exec.Cmd, error) {
	source := filepath.Join(s.dir, "source")
	if err := os.MkdirAll(source, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(s.programs, "reconcile"), source, "--listen", "", "--etcd", embedded.Endpoint(filepath.Join(s.dir, "etcd")),
		"--data-dir", filepath.Join(s.dir, "data"), "--api-address", address, "--log-level", "error")
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// connect waits until the API is ready, and for the namespace that is written
// to.
func (s *served) connect(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.tryConnect(ctx); err == nil {
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return fmt.Errorf("the api did not come up: %w", ctx.Err())
}

func (s *served) tryConnect(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "data", "kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS, config.DisableCompression = -1, true
	if s.client, err = rest.HTTPClientFor(config); err != nil {
		return err
	}
	if s.kube, err = kubernetes.NewForConfigAndClient(config, s.client); err != nil {
		return err
	}
	s.url = config.Host
	if _, err := s.fetch(ctx, "/readyz", "*/*"); err != nil {
		return err
	}
	_, err = s.kube.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err
}

// fetch reads a path to its end, and returns how long it is.
func (s *served) fetch(ctx context.Context, path, accept string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", accept)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return n, err
}

// cost is the CPU time that the server uses for something that is done n
// times, for each of them.
func (s *served) cost(ctx context.Context, n int, do func() error) (time.Duration, error) {
	if err := s.rest(ctx); err != nil {
		return 0, err
	}
	before, err := used(s.program.Process.Pid)
	if err != nil {
		return 0, err
	}
	for range n {
		if err := do(); err != nil {
			return 0, err
		}
	}
	after, err := used(s.program.Process.Pid)
	return (after - before) / time.Duration(n), err
}

// rest waits until the server has nothing left to do.
func (s *served) rest(ctx context.Context) error {
	const restful = 20 * time.Millisecond // of CPU in a second
	for range 120 {
		before, err := used(s.program.Process.Pid)
		if err != nil {
			return err
		}
		pause(ctx, time.Second)
		after, err := used(s.program.Process.Pid)
		if err != nil || after-before <= restful {
			return errors.Join(err, ctx.Err())
		}
	}
	return errors.New("the server does not come to rest")
}

// tick is the unit of CPU times in /proc on Linux.
const tick = 10 * time.Millisecond

// used is the CPU time that a process has used (proc(5), /proc/pid/stat).
func used(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(after)
	const utime, stime = 14 - 3, 15 - 3 // fields after "pid (comm) "
	var sum int64
	for _, i := range []int{utime, stime} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks
	}
	return time.Duration(sum) * tick, nil
}

// close stops everything and removes it.
func (s *served) close() error {
	var errs []error
	if s.program != nil && s.program.Process != nil {
		errs = append(errs, stop(s.program))
	}
	if s.etcd != nil {
		errs = append(errs, s.etcd.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

func stop(cmd *exec.Cmd) error {
	return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
