package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/containerd"
)

// Removed counts what Remove took away.
type Removed struct{ Containers, Pods int }

// Remove ends all containers of the node, gracefully within grace, and removes
// all that its agent ever made on the machine: containers, images, namespaces,
// mounts, cgroups, addresses, rules, volumes and logs. The agent must not be
// running. It does what it can and returns what it could not.
func Remove(ctx context.Context, f Flags, grace time.Duration, logger *slog.Logger) (Removed, error) {
	n, err := Open(ctx, f, logger)
	if err != nil {
		return Removed{}, err
	}
	removed, err := n.remove(ctx, grace)
	n.Close()
	errs := []error{err}
	if f.Containerd == "" {
		errs = append(errs, containerd.StopPrivate(ctx, f.privateDir()))
	}
	return removed, errors.Join(append(errs, f.removeFiles())...)
}

func (n *Node) remove(ctx context.Context, grace time.Duration) (Removed, error) {
	containers, err := n.runtime.Containers(ctx)
	if err != nil {
		return Removed{}, err
	}
	uids := map[string]bool{}
	for _, c := range containers {
		uids[c.Pod.UID] = true
	}
	errs := []error{n.stopAll(ctx, containers, grace), n.runtime.Cleanup(ctx, true)}
	sandboxes, err := n.network.List()
	errs = append(errs, err)
	for _, s := range sandboxes {
		uids[s.UID] = true
	}
	errs = append(errs, n.network.Cleanup(ctx))
	volumes, err := n.volumes.List()
	errs = append(errs, err)
	for _, uid := range volumes {
		uids[uid] = true
		errs = append(errs, n.volumes.Remove(uid))
	}
	errs = append(errs, n.removeLogs(uids))
	return Removed{Containers: len(containers), Pods: len(uids)}, errors.Join(errs...)
}

// stopAll sends SIGTERM to all that runs and waits until it ended, at most for
// grace. What is left is killed by the clean-up.
func (n *Node) stopAll(ctx context.Context, containers []rt.Status, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	events, err := n.runtime.Events(ctx)
	if err != nil {
		return fmt.Errorf("stop containers: %w", err)
	}
	for _, c := range containers {
		if c.State != rt.Running {
			continue
		}
		if err := n.runtime.Signal(ctx, c.ID, int(syscall.SIGTERM)); err != nil && !errors.Is(err, rt.ErrNotFound) {
			n.logger.Warn("container not signalled; it is killed", "container", c.ID, "error", err)
		}
	}
	for n.running(ctx) {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-events:
			if !open {
				return nil
			}
		}
	}
	return nil
}

func (n *Node) running(ctx context.Context) bool {
	containers, err := n.runtime.Containers(ctx)
	if err != nil {
		return false
	}
	for _, c := range containers {
		if c.State == rt.Running {
			return true
		}
	}
	return false
}

// removeLogs removes the logs of all pods that this node has ever had.
func (n *Node) removeLogs(uids map[string]bool) error {
	if err := n.openLogs(prometheus.NewRegistry()); err != nil {
		return err
	}
	pods, err := n.logs.Pods()
	errs := []error{err}
	for _, uid := range pods {
		uids[uid] = true
		errs = append(errs, n.logs.RemovePod(uid))
	}
	removeIfEmpty(n.flags.LogDir)
	return errors.Join(errs...)
}

// removeFiles deletes what the node and `reconcile up` keep in their
// directories, by name: somebody else's files stay.
func (f *Flags) removeFiles() error {
	var errs []error
	for _, path := range []string{
		filepath.Join(f.DataDir, "etcd"), filepath.Join(f.DataDir, "git"), filepath.Join(f.DataDir, "kubeconfig"), f.privateDir(),
		filepath.Join(f.podsDir(), f.Name), filepath.Join(f.DataDir, "images-"+f.Name+".json"),
		f.checkpointDir(), f.spoolDir(), filepath.Join(f.RunDir, "exec"),
	} {
		errs = append(errs, os.RemoveAll(path))
	}
	removeIfEmpty(f.podsDir())
	removeIfEmpty(filepath.Join(f.DataDir, "logs"))
	removeIfEmpty(filepath.Dir(f.checkpointDir()))
	removeIfEmpty(f.DataDir)
	removeIfEmpty(f.RunDir)
	removeIfEmpty(filepath.Dir(f.RunDir))
	return errors.Join(errs...)
}

// removeIfEmpty leaves a directory with anything in it alone: rmdir refuses.
func removeIfEmpty(dir string) { _ = syscall.Rmdir(dir) }
