package network

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/evenkeel/evenkeel/testdata/requires"
)

// host is a node of a small cluster.
type host struct {
	ns   netns.NsHandle
	n    *Network
	peer Peer
	pod  Sandbox
}

// newHost makes a node with one pod that serves TCP 80.
func newHost(t *testing.T, ns netns.NsHandle, name, ip, podCIDR string) host {
	t.Helper()
	peer := Peer{Node: name, IP: netip.MustParseAddr(ip), PodCIDR: netip.MustParsePrefix(podCIDR)}
	n := newNode(t, ns, Config{Node: name, NodeIP: peer.IP, PodCIDR: peer.PodCIDR, Masquerade: true})
	pod := setup(t, n, Pod{UID: "pod-of-" + name, Name: "pod"})
	serveTCP(t, openNS(t, pod.NetNS), ":80")
	serveUDP(t, openNS(t, pod.NetNS), ":53")
	return host{ns, n, peer, pod}
}

func (h host) pods(t *testing.T) netns.NsHandle { return openNS(t, h.pod.NetNS) }

func setPeers(t *testing.T, n *Network, peers ...Peer) {
	t.Helper()
	must(t, n.SetPeers(t.Context(), peers))
}

// wantConnected wants every pod to reach every other with its own address.
func wantConnected(t *testing.T, hosts ...host) {
	t.Helper()
	for _, a := range hosts {
		for _, b := range hosts {
			wantAnswer(t, a.pods(t), "tcp4", b.pod.IP.String()+":80", a.pod.IP.String())
			wantAnswer(t, a.pods(t), "udp4", b.pod.IP.String()+":53", a.pod.IP.String())
			if _, err := ask(t, a.ns, "tcp4", b.pod.IP.String()+":80"); err != nil {
				t.Errorf("node %s to pod of %s: %v", a.peer.Node, b.peer.Node, err)
			}
		}
	}
}

func peerRoutes(t *testing.T, ns netns.NsHandle) []string {
	t.Helper()
	var out []string
	inNS(t, ns, func() {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
		must(t, err)
		for _, r := range routes {
			if ones, _ := r.Dst.Mask.Size(); ones < 32 {
				out = append(out, r.Dst.String()+" via "+r.Gw.String())
			}
		}
	})
	return out
}

// bridge joins namespaces on one link.
func bridge(t *testing.T, addrs map[string]netns.NsHandle) {
	t.Helper()
	sw := newNetNS(t)
	inNS(t, sw, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		br := &netlink.Bridge{LinkAttrs: attrs}
		must(t, netlink.LinkAdd(br))
		must(t, netlink.LinkSetUp(br))
	})
	port := 0
	for addr, ns := range addrs {
		port++
		name := "p" + string(rune('0'+port))
		wire(t, sw, name, "203.0.113."+string(rune('0'+port))+"/32", ns, "up0", addr+"/24")
		inNS(t, sw, func() {
			link, err := netlink.LinkByName(name)
			must(t, err)
			br, err := netlink.LinkByName("br0")
			must(t, err)
			must(t, netlink.LinkSetMaster(link, br))
		})
	}
}

func TestPeersOnOneLink(t *testing.T) {
	requires.Root(t)
	a, b, c := newNetNS(t), newNetNS(t), newNetNS(t)
	bridge(t, map[string]netns.NsHandle{"192.0.2.1": a, "192.0.2.2": b, "192.0.2.3": c})
	hosts := []host{
		newHost(t, a, "a", "192.0.2.1", "10.77.1.0/24"),
		newHost(t, b, "b", "192.0.2.2", "10.77.2.0/24"),
		newHost(t, c, "c", "192.0.2.3", "10.77.3.0/24"),
	}
	for range 2 { // again changes nothing
		for _, h := range hosts {
			setPeers(t, h.n, hosts[0].peer, hosts[1].peer, hosts[2].peer)
		}
		wantConnected(t, hosts...)
	}
	lost := Peer{Node: "lost", IP: netip.MustParseAddr("198.51.100.7"), PodCIDR: netip.MustParsePrefix("10.77.9.0/24")}
	if err := hosts[0].n.SetPeers(t.Context(), []Peer{lost, hosts[1].peer, {Node: "new"}}); err == nil {
		t.Error("a peer that no route leads to is no error")
	}
	if d := cmp.Diff([]string{"10.77.2.0/24 via 192.0.2.2"}, peerRoutes(t, a)); d != "" {
		t.Errorf("after a peer left (-want +got):\n%s", d)
	}
}

func TestPeersBehindARouter(t *testing.T) {
	requires.Root(t)
	a, b, router := newNetNS(t), newNetNS(t), newNetNS(t)
	wire(t, a, "up0", "192.0.2.1/24", router, "a", "192.0.2.254/24")
	wire(t, b, "up0", "198.51.100.1/24", router, "b", "198.51.100.254/24")
	addDefaultRoute(t, a, "192.0.2.254")
	addDefaultRoute(t, b, "198.51.100.254")
	inNS(t, router, func() { must(t, setSysctl("ipv4/ip_forward", "1")) })
	hosts := []host{
		newHost(t, a, "a", "192.0.2.1", "10.77.1.0/24"),
		newHost(t, b, "b", "198.51.100.1", "10.77.2.0/24"),
	}
	for range 2 {
		for _, h := range hosts {
			setPeers(t, h.n, hosts[0].peer, hosts[1].peer)
		}
		wantConnected(t, hosts...)
	}
	// A peer that moved is reached at its new address only.
	gone := hosts[1].peer
	gone.IP = netip.MustParseAddr("198.51.100.9")
	setPeers(t, hosts[0].n, gone)
	inNS(t, a, func() {
		link, err := netlink.LinkByName(hosts[0].n.overlayName())
		must(t, err)
		entries, err := netlink.NeighList(link.Attrs().Index, 7) // AF_BRIDGE
		must(t, err)
		if len(entries) != 1 || !entries[0].IP.Equal(net.ParseIP("198.51.100.9")) {
			t.Errorf("forwarding entries %v, want only 198.51.100.9", entries)
		}
	})
	setPeers(t, hosts[0].n)
	inNS(t, a, func() {
		if _, err := netlink.LinkByName(hosts[0].n.overlayName()); !isNoLink(err) {
			t.Errorf("overlay device stays without peers: %v", err)
		}
	})
}
