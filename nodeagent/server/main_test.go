package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/server/servertest"
)

// A connection of spdystream that both ends close lingers for a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// site is a server over fakes, and a client of it.
type site struct {
	*Server
	t          *testing.T
	ca         *servertest.Authority
	mu         sync.Mutex
	trust      []byte
	pods       fakePods
	containers fakeContainers
	logs       fakeLogs
	stop       func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ca: servertest.NewAuthority(t), logs: fakeLogs{ended: make(chan struct{})}}
	s.trusts(s.ca.PEM())
	s.pods = fakePods{"main": {Running: true, StdinOnce: true, Log: logs.Container{ID: "c1", Pod: "web", Name: "main"}}, "ended": {Log: logs.Container{ID: "c0", Name: "ended"}}}
	s.containers.inputs = map[string]*input{"c1": {}}
	var err error
	s.Server, err = New(Config{
		Node: "n1", NodeIP: netip.MustParseAddr("127.0.0.1"), Address: "127.0.0.1:0",
		Trust: func() []byte { s.mu.Lock(); defer s.mu.Unlock(); return s.trust },
		Pods:  s.pods, Containers: &s.containers, Logs: &s.logs, Stats: fakeStats{}, Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = func() { cancel(); running.Wait() }
	t.Cleanup(s.stop)
	return s
}

func (s *site) trusts(pem []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trust = pem
}

func (s *site) url(path string) string { return fmt.Sprintf("https://127.0.0.1:%d%s", s.Port(), path) }

// config is how the API's client is set up.
func (s *site) config() *rest.Config { return s.ca.Config(Organisation, s.Port()) }

// get asks with a certificate, or without, and pins the server's.
func (s *site) get(path string, cert, key []byte) (int, string) {
	s.t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: s.pinned}}
	if err == nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(s.url(path))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body))
}

func (s *site) pinned(certs [][]byte, _ [][]*x509.Certificate) error {
	sum := sha256.Sum256(certs[0])
	if "sha256:"+hex.EncodeToString(sum[:]) != s.CertificateHash() {
		return errors.New("the certificate is not the one that was published")
	}
	return nil
}

// fakePods are runs by container name.
type fakePods map[string]Run

func (p fakePods) Run(_, _, _, container string, previous bool) (Run, error) {
	run, ok := p[container]
	switch {
	case !ok:
		return Run{}, fmt.Errorf("container %q: %w", container, ErrNotFound)
	case previous:
		return Run{}, errors.New("previous terminated container not found")
	}
	return run, nil
}

// Network is the host's; the pod's address is another than where forwarded
// ports are.
func (p fakePods) Network(_, pod, _ string) (string, netip.Addr, error) {
	switch pod {
	case "web":
		return "", podAddress, nil
	case "half":
		return "", netip.Addr{}, nil
	}
	return "", netip.Addr{}, ErrNotFound
}

var podAddress = netip.MustParseAddr("127.0.0.3")

func (p fakePods) List() *corev1.PodList {
	return &corev1.PodList{Items: []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "web"}}}}
}

// fakeContainers run commands made up for the tests.
type fakeContainers struct {
	mu     sync.Mutex
	inputs map[string]*input
	sizes  []runtime.TerminalSize
	killed bool
}

type input struct {
	mu     sync.Mutex
	data   []byte
	closed bool
}

func (i *input) Write(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.data = append(i.data, p...)
	return len(p), nil
}

func (i *input) Close() error { return nil }

func (c *fakeContainers) Stream(ctx context.Context, _ string, command runtime.Command) (int, error) {
	switch command.Args[0] {
	case "cat":
		if _, err := io.Copy(command.Stdout, command.Stdin); err != nil {
			return 0, err
		}
		return 0, nil
	case "fail":
		fmt.Fprint(command.Stderr, "no")
		return 7, nil
	case "size": // until it has been told one
		select {
		case size := <-command.Resize:
			fmt.Fprintf(command.Stdout, "%dx%d %v", size.Width, size.Height, command.TTY)
		case <-ctx.Done():
		}
		return 0, nil
	case "hang":
		fmt.Fprint(command.Stdout, "hanging")
		<-ctx.Done()
		c.mu.Lock()
		c.killed = true
		c.mu.Unlock()
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("%w: no such command", runtime.ErrStart)
}

func (c *fakeContainers) Stdin(_ context.Context, id string) (io.WriteCloser, error) {
	if in := c.inputs[id]; in != nil {
		return in, nil
	}
	return nil, runtime.ErrNotFound
}

func (c *fakeContainers) CloseStdin(_ context.Context, id string) error {
	in := c.inputs[id]
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	return nil
}

func (c *fakeContainers) Resize(_ context.Context, _ string, size runtime.TerminalSize) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes = append(c.sizes, size)
	return nil
}

// fakeLogs say what they were asked for, and what an attached container says.
type fakeLogs struct{ ended chan struct{} }

func (l *fakeLogs) Read(_ context.Context, c logs.Container, o logs.Options, stdout, _ io.Writer) error {
	if c.ID == "c0" {
		return logs.ErrNoLog
	}
	_, err := fmt.Fprintf(stdout, "tail=%d follow=%v limit=%d stream=%q stamps=%v since=%v\n", o.Tail, o.Follow, o.LimitBytes, o.Stream, o.Timestamps, !o.Since.IsZero())
	return err
}

func (l *fakeLogs) Attach(ctx context.Context, _ logs.Container, stdout, _ io.Writer) error {
	_, err := io.WriteString(stdout, "attached")
	select {
	case <-ctx.Done():
	case <-l.ended:
	}
	return err
}

type fakeStats struct{}

func (fakeStats) Summary(context.Context) (*statsapi.Summary, error) {
	n := uint64(5)
	return &statsapi.Summary{Node: statsapi.NodeStats{NodeName: "n1", CPU: &statsapi.CPUStats{UsageNanoCores: &n}, Fs: &statsapi.FsStats{UsedBytes: &n}}}, nil
}

func (fakeStats) WriteResourceMetrics(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "node_cpu_usage_seconds_total 1\n")
	return err
}
