package containerd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

func TestShimOf(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/bin/containerd-shim-runc-v2\x00-namespace\x00ours\x00-id\x00uid-web-0\x00-address\x00/a.sock\x00":           "uid-web-0",
		"/usr/bin/containerd-shim-runc-v2\x00-namespace\x00others\x00-id\x00uid-web-0\x00-address\x00/a.sock\x00":         "",
		"/usr/bin/containerd-shim-runc-v2\x00-namespace\x00ours\x00-id\x00uid-web-0\x00-address\x00/a.sock\x00start\x00":  "",
		"/usr/bin/containerd-shim-runc-v2\x00-namespace\x00ours\x00-address\x00/a.sock\x00-id\x00uid-web-0\x00delete\x00": "",
		"/bin/sh\x00-c\x00containerd-shim-runc-v2 -namespace ours -id x\x00":                                              "",
		"": "",
	} {
		if got, ok := shimOf([]byte(line), "ours"); got != want && ok || ok != (want != "") {
			t.Errorf("%q: got %q %v, want %q", line, got, ok, want)
		}
	}
}

// A shim that containerd has forgotten ends; one that holds a container, and
// one of another namespace, do not.
func TestForgottenShimEnds(t *testing.T) {
	n, other := newNode(t), newNode(t)
	n.start(n.container("p1", "a", "sleep"))
	other.forgottenShim("gone-web-0")
	n.forgottenShim("gone-web-0")
	if err := n.sweepShims(n.scope(t.Context())); err != nil {
		t.Fatal(err)
	}
	left, err := shims(n.cfg.Namespace)
	if err != nil || len(left) != 1 || left[0].id == "gone-web-0" {
		t.Errorf("shims left: %v, %v; want the one of the container", left, err)
	}
	if left, err := shims(other.cfg.Namespace); err != nil || len(left) != 1 {
		t.Errorf("shims of the other node: %v, %v", left, err)
	}
}

// forgottenShim starts a shim that containerd knows nothing of.
func (n *node) forgottenShim(id string) {
	n.t.Helper()
	bundle := n.t.TempDir()
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte("{}"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(bundle, "log"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	drain, err := os.OpenFile(filepath.Join(bundle, "log"), os.O_RDWR, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { drain.Close() })
	cmd := exec.Command("containerd-shim-runc-v2", "-namespace", n.cfg.Namespace, "-id", id, "-address", n.cfg.Address, "start")
	cmd.Dir = bundle
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+n.cfg.Address+".ttrpc", "GRPC_ADDRESS="+n.cfg.Address)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("start a shim: %v\n%s", err, out)
	}
}

// A process that was ended has let go of what it had open: it loses its memory
// before, which takes a while, and with that its command line.
func TestEndLetsGo(t *testing.T) {
	requires.Root(t)
	disk := t.TempDir()
	if err := syscall.Mount("evenkeel-test", disk, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(disk, "out"))
	if err != nil {
		t.Fatal(err)
	}
	const much = 100 << 20
	cmd := exec.CommandContext(t.Context(), "tail", "-c", strconv.Itoa(much)) // keeps it until it has seen the end
	cmd.Stdout = out
	in, err := cmd.StdinPipe()
	if err := errors.Join(err, cmd.Start(), out.Close()); err != nil {
		t.Fatal(err)
	}
	p := processOf(cmd.Process.Pid)
	if _, err := in.Write(make([]byte, much)); err != nil || !p.lives() {
		t.Fatalf("it ended by itself: %v", err)
	}
	if err := errors.Join(end(t.Context(), p), syscall.Unmount(disk, 0)); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if later := processOf(os.Getpid()); (process{later.pid, p.started}).lives() {
		t.Error("another process is taken for it")
	}
}

// A lease that somebody left who ended goes; one that is newer, or keeps what a
// pull brought, stays.
func TestForgottenLeaseEnds(t *testing.T) {
	n := newNode(t)
	ctx, manager := n.scope(t.Context()), n.client.LeasesService()
	make := func(id string) {
		t.Helper()
		if _, err := manager.Create(ctx, leases.WithID(id), leases.WithExpiration(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	make("left")
	make(pullLease("app:1"))
	n.connected.Store(time.Now().UnixNano())
	make("mine")
	if err := n.sweepLeases(ctx); err != nil {
		t.Fatal(err)
	}
	list, err := manager.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, l := range list {
		left = append(left, l.ID)
	}
	slices.Sort(left)
	if want := []string{"mine", pullLease("app:1")}; !slices.Equal(left, want) {
		t.Errorf("leases left: %v, want %v", left, want)
	}
}
