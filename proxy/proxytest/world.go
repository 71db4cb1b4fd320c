// Package proxytest is the suite every proxy.Backend passes, and the small
// network of namespaces it runs in. Tests call it; nothing else does.
package proxytest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/evenkeel/evenkeel/proxy/thread"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// patience bounds what takes no time on an idle machine.
const patience = 30 * time.Second

// Addresses in a World.
const (
	NodeIP    = "192.0.2.10"
	OutsideIP = "192.0.2.1"
	Pod1IP    = "10.9.1.2"
	Pod2IP    = "10.9.2.2"
	RemoteIP  = "198.51.100.2"
)

// World is a node with two pods on it, a machine outside that knows only the
// node, and a remote pod that answers only to addresses on its own link.
type World struct {
	Node, Outside, Pod1, Pod2, Remote netns.NsHandle
}

// NewWorld makes the namespaces; they are gone after the test. It skips the
// test without root, or fails it where CI is set.
func NewWorld(t *testing.T) World {
	t.Helper()
	requires.Root(t)
	w := World{Node: newNetNS(t), Outside: newNetNS(t), Pod1: newNetNS(t), Pod2: newNetNS(t), Remote: newNetNS(t)}
	wire(t, w.Node, "up0", NodeIP+"/24", w.Outside, OutsideIP+"/24")
	wire(t, w.Node, "pod1", "10.9.1.1/24", w.Pod1, Pod1IP+"/24")
	wire(t, w.Node, "pod2", "10.9.2.1/24", w.Pod2, Pod2IP+"/24")
	wire(t, w.Node, "far", "198.51.100.1/24", w.Remote, RemoteIP+"/24")
	for ns, gw := range map[netns.NsHandle]string{w.Node: OutsideIP, w.Pod1: "10.9.1.1", w.Pod2: "10.9.2.1"} {
		In(t, ns, func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}) })
	}
	In(t, w.Node, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
			os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("0"), 0o644), // else it is as on the machine
		)
	})
	for name, ns := range map[string]netns.NsHandle{"pod1": w.Pod1, "pod2": w.Pod2, "remote": w.Remote} {
		serveTCP(t, ns, name)
		serveUDP(t, ns, name)
	}
	return w
}

func newNetNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	if err := thread.Own(func() (err error) { ns, err = netns.New(); return err }); err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	In(t, ns, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return ns
}

// In runs f on a thread in ns, and fails the test if f fails.
func In(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	if err := thread.In(ns, f); err != nil {
		t.Fatal(err)
	}
}

// wire joins a and b; b's end is eth0.
func wire(t *testing.T, a netns.NsHandle, aName, aAddr string, b netns.NsHandle, bAddr string) {
	t.Helper()
	In(t, a, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = aName
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(int(b))
		return errors.Join(netlink.LinkAdd(pair), address(aName, aAddr))
	})
	In(t, b, func() error { return address("eth0", bAddr) })
	In(t, a, func() error { return awaitUp(aName) })
	In(t, b, func() error { return awaitUp("eth0") })
}

// awaitUp returns once the interface sends; before, it drops silently.
func awaitUp(name string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
	}
	return fmt.Errorf("%s has no carrier", name)
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

// serveTCP answers every line with the server's name and the client's address,
// at once on connecting and then to each byte.
func serveTCP(t *testing.T, ns netns.NsHandle, name string) {
	t.Helper()
	In(t, ns, func() error {
		l, err := net.Listen("tcp4", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go answerTCP(c, name)
			}
		}()
		return nil
	})
}

func answerTCP(c net.Conn, name string) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := io.WriteString(c, answer(name, c.RemoteAddr())); err != nil {
			return
		}
	}
}

func serveUDP(t *testing.T, ns netns.NsHandle, name string) {
	t.Helper()
	In(t, ns, func() error {
		c, err := net.ListenPacket("udp4", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			buf := make([]byte, 1500)
			for {
				_, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = c.WriteTo([]byte(answer(name, from)), from)
			}
		}()
		return nil
	})
}

func answer(name string, client net.Addr) string {
	return fmt.Sprintf("%s %s", name, netip.MustParseAddrPort(client.String()).Addr())
}

// Dial opens a connection from ns.
func Dial(ns netns.NsHandle, network, addr string) (net.Conn, error) {
	var c net.Conn
	err := thread.In(ns, func() (err error) {
		d := net.Dialer{Timeout: patience}
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// Ask sends one byte and returns the answer: who answered, and which client
// address it saw.
func Ask(c net.Conn) (server, client string, err error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("x")); err != nil {
		return "", "", err
	}
	buf := make([]byte, 100)
	k, err := c.Read(buf)
	if err != nil {
		return "", "", err
	}
	server, client, _ = strings.Cut(string(buf[:k]), " ")
	return server, client, nil
}

// AskOnce is Ask on a connection of its own.
func AskOnce(ns netns.NsHandle, network, addr string) (server, client string, err error) {
	c, err := Dial(ns, network, addr)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = c.Close() }()
	return Ask(c)
}
