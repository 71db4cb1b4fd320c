package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Peer is another node and the range of its pods.
type Peer struct {
	Node    string
	IP      netip.Addr
	PodCIDR netip.Prefix
}

// path is one route to a peer's pods: by the peer itself on a shared link, or
// through the overlay.
type path struct {
	podCIDR netip.Prefix
	via     netip.Addr
	link    int
	overlay bool
}

// SetPeers makes the pods of exactly these nodes reachable: by a plain route
// to a node on the same link, by VXLAN to any other. The list is the whole
// truth; routes to nodes that are not in it are removed. A peer without an
// address or range is left out until it has them; one that no route leads to
// is an error, which does not keep the others from being reached.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	peers = n.usable(peers)
	paths, far, unreachable := n.paths(peers)
	if err := n.syncOverlay(far, paths); err != nil {
		return err
	}
	if err := n.syncRoutes(paths); err != nil {
		return err
	}
	n.mu.Lock()
	n.peers = nil
	for _, p := range peers {
		n.peers = append(n.peers, p.PodCIDR)
	}
	n.mu.Unlock()
	return errors.Join(unreachable, n.syncRanges())
}

// usable drops this node itself, peers that are not complete, and all but the
// first of several that claim one range.
func (n *Network) usable(peers []Peer) []Peer {
	var out []Peer
	var taken []netip.Prefix
	sorted := slices.Clone(peers)
	slices.SortStableFunc(sorted, func(a, b Peer) int { return strings.Compare(a.Node, b.Node) })
	for _, p := range sorted {
		if p.Node == n.cfg.Node || p.IP == n.cfg.NodeIP || !p.IP.Is4() || validateCIDR(p.PodCIDR) != nil {
			continue
		}
		p.PodCIDR = p.PodCIDR.Masked()
		if slices.ContainsFunc(taken, p.PodCIDR.Overlaps) {
			n.log.Warn("pod range claimed twice", "peer", p.Node, "range", p.PodCIDR)
			continue
		}
		taken = append(taken, p.PodCIDR)
		out = append(out, p)
	}
	return out
}

// paths decides for each peer how to reach it. far lists those behind a router,
// and the error those that are out of reach.
func (n *Network) paths(peers []Peer) (paths []path, far []Peer, unreachable error) {
	for _, p := range peers {
		routes, err := n.nl.RouteGet(p.IP.AsSlice())
		if err != nil || len(routes) == 0 {
			unreachable = errors.Join(unreachable, fmt.Errorf("find route to node %s at %s: %w", p.Node, p.IP, err))
			continue
		}
		r := routes[0]
		if len(r.Gw) == 0 && r.Via == nil {
			paths = append(paths, path{podCIDR: p.PodCIDR, via: p.IP, link: r.LinkIndex})
			continue
		}
		far = append(far, p)
		paths = append(paths, path{podCIDR: p.PodCIDR, via: p.PodCIDR.Addr(), overlay: true})
	}
	return paths, far, unreachable
}

// syncRoutes makes the peers' routes of this node exactly those in paths.
func (n *Network) syncRoutes(paths []path) error {
	have, err := n.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list routes: %w", err)
	}
	want := map[netip.Prefix]path{}
	for _, p := range paths {
		want[p.podCIDR] = p
	}
	for _, r := range have {
		dst, ok := prefixOf(r.Dst)
		if !ok || dst.Bits() == 32 { // the route to a pod of this node
			continue
		}
		p, wanted := want[dst]
		switch {
		case !wanted:
			if err := n.nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove route to %s: %w", dst, err)
			}
		case r.LinkIndex == p.link && p.via == addrOf(r.Gw):
			delete(want, dst)
		}
	}
	for _, p := range want {
		if err := n.nl.RouteReplace(n.route(p)); err != nil {
			return fmt.Errorf("add route to %s via %s: %w", p.podCIDR, p.via, err)
		}
	}
	return nil
}

func (n *Network) route(p path) *netlink.Route {
	return &netlink.Route{
		LinkIndex: p.link, Gw: p.via.AsSlice(), Protocol: routeProtocol, Flags: int(netlink.FLAG_ONLINK),
		Dst: &net.IPNet{IP: p.podCIDR.Addr().AsSlice(), Mask: net.CIDRMask(p.podCIDR.Bits(), 32)},
	}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a := addrOf(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a, ones), a.IsValid()
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
