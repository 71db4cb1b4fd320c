package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

// newNetNS makes a network namespace with lo up, gone at the end of the test.
func newNetNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	must(t, onThread(func() (err error) { ns, err = netns.New(); return err }))
	t.Cleanup(func() { _ = ns.Close() })
	inNS(t, ns, func() {
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
	})
	return ns
}

// inNS runs f on a thread in ns and waits for it.
func inNS(t *testing.T, ns netns.NsHandle, f func()) {
	t.Helper()
	err := onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		f()
		return nil
	})
	if err != nil {
		t.Fatalf("enter namespace: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire joins two namespaces by a pair of interfaces with these names and
// addresses.
func wire(t *testing.T, a netns.NsHandle, aName, aAddr string, b netns.NsHandle, bName, bAddr string) {
	t.Helper()
	inNS(t, a, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = aName
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = bName, netlink.NsFd(int(b))
		must(t, netlink.LinkAdd(pair))
	})
	for _, e := range []struct {
		ns         netns.NsHandle
		name, addr string
	}{{a, aName, aAddr}, {b, bName, bAddr}} {
		inNS(t, e.ns, func() {
			link, err := netlink.LinkByName(e.name)
			must(t, err)
			addr, err := netlink.ParseAddr(e.addr)
			must(t, err)
			must(t, netlink.AddrAdd(link, addr))
			must(t, netlink.LinkSetUp(link))
		})
	}
	inNS(t, a, func() { must(t, waitUp(handle(t), aName)) })
	inNS(t, b, func() { must(t, waitUp(handle(t), bName)) })
}

// handle is netlink in the calling thread's namespace.
func handle(t *testing.T) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func addDefaultRoute(t *testing.T, ns netns.NsHandle, gw string) {
	t.Helper()
	inNS(t, ns, func() { must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)})) })
}

// newNode is a Network in ns; it and all it made are gone after the test.
func newNode(t *testing.T, ns netns.NsHandle, cfg Config) *Network {
	t.Helper()
	if cfg.RunDir == "" {
		cfg.RunDir = filepath.Join(t.TempDir(), "run")
	}
	var n *Network
	inNS(t, ns, func() {
		var err error
		n, err = New(cfg)
		if err != nil {
			t.Errorf("New: %v", err)
		}
	})
	if n == nil {
		t.FailNow()
	}
	t.Cleanup(func() {
		if err := n.Cleanup(context.Background()); err != nil {
			t.Errorf("Cleanup: %v", err)
		}
		n.Close()
	})
	return n
}

// serveTCP answers every connection in ns with the caller's address as seen.
func serveTCP(t *testing.T, ns netns.NsHandle, addr string) {
	t.Helper()
	inNS(t, ns, func() {
		l, err := net.Listen("tcp4", addr)
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, c.RemoteAddr().String())
				_ = c.Close()
			}
		}()
	})
}

func serveUDP(t *testing.T, ns netns.NsHandle, addr string) {
	t.Helper()
	inNS(t, ns, func() {
		c, err := net.ListenPacket("udp4", addr)
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			buf := make([]byte, 1500)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(from.String()), from)
			}
		}()
	})
}

// ask connects from ns and returns the source address the server saw.
func ask(t *testing.T, ns netns.NsHandle, network, addr string) (string, error) {
	t.Helper()
	var answer string
	var err error
	inNS(t, ns, func() {
		var c net.Conn
		d := net.Dialer{Timeout: patience}
		if c, err = d.Dial(network, addr); err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(patience))
		if strings.HasPrefix(network, "udp") {
			if _, err = c.Write([]byte("x")); err != nil {
				return
			}
		}
		buf := make([]byte, 100)
		var k int
		if k, err = c.Read(buf); err != nil {
			return
		}
		answer = netip.MustParseAddrPort(string(buf[:k])).Addr().String()
	})
	return answer, err
}

func wantAnswer(t *testing.T, from netns.NsHandle, network, addr, source string) {
	t.Helper()
	got, err := ask(t, from, network, addr)
	if err != nil || got != source {
		t.Errorf("%s %s: source %q, err %v; want source %q", network, addr, got, err, source)
	}
}

func openNS(t *testing.T, path string) netns.NsHandle {
	t.Helper()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// traces lists what is left of a node in its namespace and mount table.
func traces(t *testing.T, ns netns.NsHandle, n *Network) []string {
	t.Helper()
	var out []string
	inNS(t, ns, func() {
		links, err := netlink.LinkList()
		must(t, err)
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, "ek") {
				out = append(out, "link "+l.Attrs().Name)
			}
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
		must(t, err)
		for _, r := range routes {
			out = append(out, fmt.Sprintf("route %s", r.Dst))
		}
	})
	must(t, n.inHost(func() error {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if strings.Contains(string(b), n.cfg.RunDir) {
			out = append(out, "mount below "+n.cfg.RunDir)
		}
		return err
	}))
	if _, err := os.Stat(n.cfg.RunDir); err == nil {
		out = append(out, "directory "+n.cfg.RunDir)
	}
	return out
}
