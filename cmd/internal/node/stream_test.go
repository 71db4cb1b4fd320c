package node

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/server"
	"github.com/evenkeel/evenkeel/nodeagent/server/servertest"
	"github.com/evenkeel/evenkeel/nodeagent/stats"
)

// runs are the containers of the only pod, by name.
type runs struct {
	byName map[string]logs.Container
	netns  string
}

func (r *runs) Run(_, _, _, container string, _ bool) (server.Run, error) {
	return server.Run{Log: r.byName[container], Running: true, StdinOnce: true}, nil
}

func (r *runs) Network(string, string, string) (string, netip.Addr, error) {
	return r.netns, netip.Addr{}, nil
}
func (r *runs) List() *corev1.PodList { return &corev1.PodList{} }

// serve runs the node's server over a bench, and returns how to reach it.
func (b *bench) serve(pods *runs, collector *stats.Collector) *rest.Config {
	b.t.Helper()
	ca := servertest.NewAuthority(b.t)
	s, err := server.New(server.Config{
		Node: b.name, NodeIP: netip.MustParseAddr("127.0.0.1"), Address: "127.0.0.1:0", Trust: ca.PEM,
		Pods: pods, Containers: b.runtime, Logs: b.logs, Stats: collector, Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() { cancel(); running.Wait() })
	return ca.Config(server.Organisation, s.Port())
}

// stream runs what kubectl does for exec and attach.
func stream(t *testing.T, cfg *rest.Config, path string, o remotecommand.StreamOptions) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return servertest.Executor(t, cfg, path).StreamWithContext(ctx, o)
}

func (b *bench) collector() *stats.Collector {
	b.t.Helper()
	c, err := stats.New(stats.Config{
		Node: b.name, Dir: b.dir, Cgroup: "/evenkeel-test/" + b.name, Disk: b.runtime, Pods: b.measured,
		Logs: func(p stats.Pod, c stats.Container) (int64, int64) {
			return b.logs.ContainerUsage(logs.Container{UID: p.UID, Namespace: p.Namespace, Pod: p.Name, Name: c.Name})
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) measured() []stats.Pod {
	parent := "/evenkeel-test/" + b.name + "/podp"
	p := stats.Pod{UID: b.name, Namespace: "default", Name: "p", Cgroup: parent, Started: time.Now()}
	all, err := b.runtime.Containers(context.Background())
	if err != nil {
		b.t.Error(err)
	}
	for _, s := range all {
		if s.State == rt.Running {
			p.Containers = append(p.Containers, stats.Container{ID: s.ID, Name: s.Name, Cgroup: parent + "/" + s.ID, PID: s.PID, Started: s.StartedAt})
		}
	}
	return []stats.Pod{p}
}

func TestExecInContainer(t *testing.T) {
	b := newBench(t)
	c := b.start("main", func(c *rt.Container) { c.Stdin = true }, "echo")
	cfg := b.serve(&runs{byName: map[string]logs.Container{"main": c}}, b.collector())
	var out, bad bytes.Buffer
	text := strings.Repeat("0123456789", 300_000)
	err := stream(t, cfg, "/exec/default/p/main?command=/voice&command=cat&input=1&output=1&error=1", remotecommand.StreamOptions{Stdin: strings.NewReader(text), Stdout: &out, Stderr: &bad})
	if err != nil || out.String() != text {
		t.Errorf("cat: %d bytes of %d, %v, %q", out.Len(), len(text), err, bad.String())
	}
	err = stream(t, cfg, "/exec/default/p/main?command=/voice&command=exit&command=9&output=1", remotecommand.StreamOptions{Stdout: &out})
	if coded, ok := err.(interface{ ExitStatus() int }); !ok || coded.ExitStatus() != 9 {
		t.Errorf("exit: %v", err)
	}
	err = stream(t, cfg, "/exec/default/p/main?command=/none&output=1", remotecommand.StreamOptions{Stdout: &out})
	if err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("missing command: %v", err)
	}
	out.Reset()
	r, w := io.Pipe()
	defer w.Close()
	err = stream(t, cfg, "/exec/default/p/main?command=/voice&command=sizes&input=1&output=1&tty=1", remotecommand.StreamOptions{
		Stdin: r, Stdout: &out, Tty: true, TerminalSizeQueue: &growing{{Width: 80, Height: 25}, {Width: 99, Height: 30}},
	})
	if err != nil || !strings.HasPrefix(out.String(), "terminal true xterm\r\n") || !strings.HasSuffix(out.String(), "99x30\r\n") {
		t.Errorf("sizes: %q, %v", out.String(), err)
	}
}

// growing are sizes that a terminal takes one after the other.
type growing []remotecommand.TerminalSize

func (g *growing) Next() *remotecommand.TerminalSize {
	if len(*g) == 0 {
		return nil
	}
	next := (*g)[0]
	*g = (*g)[1:]
	return &next
}

func TestAttachToContainer(t *testing.T) {
	b := newBench(t)
	c := b.start("main", func(c *rt.Container) { c.Stdin = true }, "echo")
	tty := b.start("tty", func(c *rt.Container) { c.Stdin, c.TTY = true, true }, "sizes")
	cfg := b.serve(&runs{byName: map[string]logs.Container{"main": c, "tty": tty}}, b.collector())
	var out, bad bytes.Buffer
	err := stream(t, cfg, "/attach/default/p/main?input=1&output=1&error=1", remotecommand.StreamOptions{Stdin: strings.NewReader("one\ntwo\n"), Stdout: &out, Stderr: &bad})
	if err != nil || out.String() != "heard one\nheard two\nsilence\n" || bad.String() != "noted one\nnoted two\n" {
		t.Errorf("got %q and %q, %v", out.String(), bad.String(), err)
	}
	if code := b.exits(c); code != 4 {
		t.Errorf("exit code %d", code)
	}
	b.says(c, "silence\n")
	b.says(tty, "terminal true xterm\r\n")
	out.Reset()
	r, w := io.Pipe()
	defer w.Close()
	err = stream(t, cfg, "/attach/default/p/tty?input=1&output=1&tty=1", remotecommand.StreamOptions{
		Stdin: r, Stdout: &out, Tty: true, TerminalSizeQueue: &growing{{Width: 80, Height: 25}, {Width: 99, Height: 30}},
	})
	if err != nil || !strings.HasSuffix(out.String(), "99x30\r\n") {
		t.Errorf("got %q, %v", out.String(), err)
	}
	b.says(tty, "99x30\r\n")
}

func TestPortForwardToContainer(t *testing.T) {
	b := newBench(t)
	netns := filepath.Join(b.dir, "net")
	if err := os.WriteFile(netns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("unshare", "--net="+netns, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	t.Cleanup(func() { _ = syscall.Unmount(netns, syscall.MNT_DETACH) })
	c := b.start("main", func(c *rt.Container) { c.Namespaces.Net = netns }, "serve", "127.0.0.1:7070")
	b.says(c, "serving")
	cfg := b.serve(&runs{netns: netns}, b.collector())
	conn, err := net.Dial("tcp", servertest.Forward(t, cfg, "/portForward/default/p", 7070))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "light")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "got light" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = conn.Close()
}

func TestStatsOfContainer(t *testing.T) {
	b := newBench(t)
	c := b.start("main", nil, "burn")
	b.says(c, "burning")
	s, err := b.collector().Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pods) != 1 || len(s.Pods[0].Containers) != 1 {
		t.Fatalf("got %+v", s.Pods)
	}
	p, main := s.Pods[0], s.Pods[0].Containers[0]
	for name, test := range map[string]struct {
		got         *uint64
		least, most uint64
	}{ // of the CPUs it has what others leave to it
		"container CPU":      {main.CPU.UsageNanoCores, 5e6, 1300e6},
		"pod CPU":            {p.CPU.UsageNanoCores, 5e6, 1300e6},
		"node CPU":           {s.Node.CPU.UsageNanoCores, 100e6, 1e12},
		"container memory":   {main.Memory.WorkingSetBytes, 20 << 20, 100 << 20},
		"container RSS":      {main.Memory.RSSBytes, 20 << 20, 100 << 20},
		"node memory":        {s.Node.Memory.WorkingSetBytes, 100 << 20, 1 << 50},
		"processes":          {p.ProcessStats.ProcessCount, 1, 100},
		"root file system":   {main.Rootfs.UsedBytes, 3 << 20, 10 << 20},
		"logs":               {main.Logs.UsedBytes, 1, 1 << 20},
		"ephemeral storage":  {p.EphemeralStorage.UsedBytes, 3 << 20, 11 << 20},
		"images":             {s.Node.Runtime.ImageFs.UsedBytes, 1 << 20, 1 << 40},
		"image file system":  {s.Node.Runtime.ImageFs.CapacityBytes, 1 << 20, 1 << 60},
		"node's file system": {s.Node.Fs.AvailableBytes, 1 << 20, 1 << 60},
	} {
		if test.got == nil {
			t.Errorf("%s is not known", name)
		} else if *test.got < test.least || *test.got > test.most {
			t.Errorf("%s is %d, want %d to %d", name, *test.got, test.least, test.most)
		}
	}
}
