package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime/containerd"
)

// startPatience is how long an agent waits for containerd as it starts: it may
// be dead for a while, or die as it starts itself.
const startPatience = 2 * time.Minute

// awaitRuntime connects to containerd. What runs goes on meanwhile.
func (n *Node) awaitRuntime(ctx context.Context) error {
	over := time.After(startPatience)
	for {
		err := n.openRuntime(ctx)
		if err == nil || errors.As(err, new(*containerd.MissingError)) || ctx.Err() != nil {
			return err
		}
		n.logger.Warn("containerd is not there, will be tried again", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-over:
			return err
		case <-time.After(time.Second):
		}
	}
}

// openRuntime connects to containerd; one of our own is started if need be.
func (n *Node) openRuntime(ctx context.Context) error {
	f := &n.flags
	address, private, err := f.containerd(ctx, n.logger)
	if err != nil {
		return err
	}
	state := "" // that of the socket's directory
	if private {
		n.private, state = address, containerd.PrivateState(f.privateDir())
	}
	n.runtime, err = containerd.New(ctx, containerd.Config{
		Address: address, Node: f.Name, OCIRuntime: f.OCIRuntime, PlainHTTP: f.PlainHTTP,
		RegistryDir: f.RegistryDir, MaxParallelPulls: f.MaxPulls, DaemonState: state,
		StateDir: filepath.Join(f.RunDir, "exec"), CgroupRoot: f.cgroupRoot(), Logger: n.logger,
	})
	return err
}

// containerd finds the daemon to use; private is one of our own.
func (f *Flags) containerd(ctx context.Context, logger *slog.Logger) (address string, private bool, err error) {
	if f.Containerd != "" {
		_, err := containerd.Detect(ctx, f.Containerd)
		return f.Containerd, false, err
	}
	if _, err := containerd.Detect(ctx, containerd.SystemAddress); err == nil {
		return containerd.SystemAddress, false, nil
	}
	address, err = containerd.StartPrivate(ctx, containerd.PrivateConfig{Dir: f.privateDir(), Logger: logger})
	return address, true, err
}

// containerdCheck is how often a containerd of our own is looked at.
const containerdCheck = 3 * time.Second

// keepContainerd starts a containerd of our own again when it is gone; its
// containers have run on meanwhile. The machine's own is its owner's to mend.
func (n *Node) keepContainerd(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(containerdCheck):
		}
		conn, err := net.Dial("unix", n.private)
		if err == nil {
			_ = conn.Close()
			continue
		}
		n.logger.Warn("containerd is gone, starting it again", "socket", n.private, "error", err)
		if _, err := containerd.StartPrivate(ctx, containerd.PrivateConfig{Dir: n.flags.privateDir(), Logger: n.logger}); err != nil && ctx.Err() == nil {
			n.logger.Error("containerd not started, will be tried again", "error", err)
		}
	}
}
