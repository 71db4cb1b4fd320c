package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestRebootWithoutEtcd takes the power from a node while etcd is away: its
// pods start again from the checkpoint, and are the same ones with one more
// restart when etcd is back.
func TestRebootWithoutEtcd(t *testing.T) {
	require(t)
	t.Parallel()
	w := newWorld(t, 1)
	h := w.hosts[0]
	m := startMachines(w, h.ns, "127.0.0.1", webService(3))
	m.cluster.ready()
	uids := slices.Sorted(maps.Keys(podUIDs(m.cluster.pods(shop, "web"))))

	w.step("the power goes, and etcd does not come back")
	for _, p := range []*process{m.control, m.store, m.proxies[h], m.agents[h]} {
		p.kill()
	}
	h.reboot()
	m.startAgent(h)
	eventually(t, patience, "the last known pods run", func() error {
		if running := slices.Compact(slices.Sorted(maps.Values(h.containers()))); len(running) != len(uids) {
			return fmt.Errorf("%d pods run", len(running))
		}
		return nil
	})

	w.step("etcd is back")
	m.startStore()
	m.startControl()
	m.startProxy(h)
	m.cluster.current()
	eventually(t, patience, "the same pods, restarted once", func() error {
		pods := m.cluster.podsReady(shop, "web", 3)
		if len(pods) != 3 {
			return fmt.Errorf("%d pods ready", len(pods))
		}
		for uid, restarts := range podUIDs(pods) {
			if !slices.Contains(uids, uid) || restarts != 1 {
				return fmt.Errorf("pod %s was restarted %d times; before there were %v", uid, restarts, uids)
			}
		}
		return nil
	})
	m.works("after")
}

// reboot ends everything that a power cut ends, for this host alone: processes,
// mounts, links, and what lies in directories that do not outlive it.
func (h *host) reboot() {
	h.t.Helper()
	h.killContainerd()
	for _, pid := range append(h.shims(), slices.Collect(maps.Keys(h.containers()))...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			h.t.Fatal(err)
		}
	}
	eventually(h.t, patience, "no process left", func() error {
		if left := len(h.shims()) + len(h.containers()); left > 0 {
			return fmt.Errorf("%d processes", left)
		}
		return nil
	})
	h.unmountAll()
	h.unlinkAll()
	for _, dir := range []string{filepath.Join(h.dir, "r"), filepath.Join(h.data(), "containerd", "state")} {
		if err := os.RemoveAll(dir); err != nil {
			h.t.Fatal(err)
		}
	}
	states, err := filepath.Glob("/run/containerd/runc/*" + h.name + "*")
	if err != nil || len(states) == 0 {
		h.t.Fatalf("state of runc: %v, %v", states, err)
	}
	for _, dir := range states {
		if err := os.RemoveAll(dir); err != nil {
			h.t.Fatal(err)
		}
	}
}

// killContainerd kills the host's containerd and returns which process that was.
func (h *host) killContainerd() int {
	h.t.Helper()
	pid := pidIn(h.t, filepath.Join(h.data(), "containerd", "containerd.pid"))
	if pid == 0 {
		h.t.Fatal("no containerd runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
	return pid
}

func (h *host) unmountAll() {
	h.t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		h.t.Fatal(err)
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[1]; strings.HasPrefix(point, h.dir+"/") {
			points = append(points, point)
		}
	}
	slices.Sort(points)
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			h.t.Fatalf("unmount %s: %v", point, err)
		}
	}
}

// unlinkAll deletes all links but the one to the hub.
func (h *host) unlinkAll() {
	h.t.Helper()
	h.inside(h.ns, func() error {
		links, err := netlink.LinkList()
		for _, link := range links {
			if name := link.Attrs().Name; name != "lo" && name != "eth0" {
				// The kernel is still at those of network namespaces that have gone.
				if e := netlink.LinkDel(link); e != nil && !errors.As(e, new(netlink.LinkNotFoundError)) && !errors.Is(e, unix.ENODEV) {
					err = errors.Join(err, e)
				}
			}
		}
		return err
	})
}
