package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/proxy/thread"
)

// hubIP is where the hosts' default routes lead.
const hubIP = "192.0.2.1"

var worlds atomic.Int32

// world is a network of its own: a hub, which stands for everything outside,
// and hosts on one link with it. Its namespaces have no names: they end with
// the last that uses them.
type world struct {
	t     *testing.T
	name  string
	dir   string
	hub   netns.NsHandle
	hosts []*host
}

// host is a machine of its own as far as the network tells: the rest it shares
// with all others.
type host struct {
	*world
	name   string // of the node
	ip     string
	dir    string
	ns     netns.NsHandle
	before network
}

// newWorld makes a network with some hosts. After the test each is brought
// down, and must be as it was before.
func newWorld(t *testing.T, hosts int) *world {
	t.Helper()
	w := &world{t: t, name: fmt.Sprintf("e2e%d", worlds.Add(1)), hub: newNetNS(t)}
	w.dir = filepath.Join(built.base, w.name)
	w.inside(w.hub, func() error {
		bridge := netlink.NewLinkAttrs()
		bridge.Name = "br0"
		return errors.Join(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}), address("br0", hubIP+"/24"))
	})
	// What leads nowhere is refused at once, as a firewall does.
	w.inside(w.hub, func() error {
		_, everywhere, _ := net.ParseCIDR("0.0.0.0/0")
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
			netlink.RouteAdd(&netlink.Route{Dst: everywhere, Type: unix.RTN_PROHIBIT}),
		)
	})
	for i := range hosts {
		w.addHost(i)
	}
	return w
}

func (w *world) addHost(i int) {
	w.t.Helper()
	// The name is unique on the machine: cgroups and runc's state carry it.
	name := fmt.Sprintf("%s-%s-%c", filepath.Base(built.base), w.name, 'a'+i)
	h := &host{world: w, name: strings.ToLower(name), ip: fmt.Sprintf("192.0.2.%d", 10+i), ns: newNetNS(w.t)}
	h.dir = filepath.Join(w.dir, string(rune('a'+i)))
	w.inside(w.hub, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("host%d", i)
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(int(h.ns))
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(pair, bridge), netlink.LinkSetUp(pair))
	})
	w.inside(h.ns, func() error {
		return errors.Join(address("eth0", h.ip+"/24"), netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(hubIP)}))
	})
	eventually(w.t, patience, "links of "+h.name, func() error {
		return thread.In(h.ns, func() error { return isUp("eth0") })
	})
	h.prepare()
	w.hosts = append(w.hosts, h)
}

// prepare makes the host's directories and says how all is undone.
func (h *host) prepare() {
	h.t.Helper()
	if err := os.MkdirAll(h.images(), 0o755); err != nil {
		h.t.Fatal(err)
	}
	for _, name := range []string{"guestbook", "echo"} {
		h.addImage(name)
	}
	h.before = h.network()
	undo := append([]string{filepath.Join(built.bin, "reconcile"), "down"}, h.place()...)
	if err := os.WriteFile(filepath.Join(h.dir, downFile), []byte(strings.Join(undo, "\n")), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.down)
}

// downFile tells the warden how to remove a host's node.
const downFile = "down"

// place are the flags that say where the node keeps its things.
func (h *host) place() []string {
	return []string{"--node-name=" + h.name, "--data-dir=" + h.data(), "--run-dir=" + filepath.Join(h.dir, "r"), "--log-dir=" + filepath.Join(h.dir, "l")}
}

func (h *host) data() string   { return filepath.Join(h.dir, "d") }
func (h *host) images() string { return filepath.Join(h.dir, "images") }

// addImage drops an image's archive into the host's image directory.
func (h *host) addImage(name string) {
	h.t.Helper()
	if err := os.Link(archive(name), filepath.Join(h.images(), name+".tar")); err != nil {
		h.t.Fatal(err)
	}
}

// down removes the node and checks that nothing of it is left.
func (h *host) down() {
	h.t.Helper()
	if _, err := os.Stat(filepath.Join(h.dir, downFile)); err != nil {
		return // done before
	}
	out, err := h.run(h.ns, "reconcile", append([]string{"down", "--grace=2s"}, h.place()...)...)
	if err != nil {
		h.t.Errorf("reconcile down: %v\n%s", err, out)
		return
	}
	h.t.Logf("%s: %s", h.name, strings.TrimSpace(out))
	if err := os.Remove(filepath.Join(h.dir, downFile)); err != nil {
		h.t.Error(err)
	}
	h.nothingLeft()
}

// run runs one of our programs, or another, in a namespace, and returns all
// that it wrote.
func (w *world) run(ns netns.NsHandle, program string, args ...string) (string, error) {
	if path := filepath.Join(built.bin, program); exists(path) {
		program = path
	}
	cmd := exec.Command(program, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := thread.In(ns, cmd.Start); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func newNetNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	err := thread.Own(func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// inside runs f on a thread in a namespace.
func (w *world) inside(ns netns.NsHandle, f func() error) {
	w.t.Helper()
	if err := thread.In(ns, f); err != nil {
		w.t.Fatal(err)
	}
}

func address(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

func isUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil && link.Attrs().OperState != netlink.OperUp {
		err = fmt.Errorf("%s is %v", name, link.Attrs().OperState)
	}
	return err
}
