package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	overlayVNI  = 4242
	overlayPort = 4789 // IANA's for VXLAN
)

func (n *Network) overlayName() string { return "ekv" + hash32(n.cfg.Node, 8) }

// syncOverlay gives this node's VXLAN device exactly the peers in far and fills
// in the device's index in paths. Without far peers there is no device.
func (n *Network) syncOverlay(far []Peer, paths []path) error {
	if len(far) == 0 {
		if err := n.deleteLink(n.overlayName()); err != nil {
			return err
		}
		return n.syncOverlayGuard(nil)
	}
	if err := n.syncOverlayGuard(far); err != nil {
		return err
	}
	dev, err := n.overlay()
	if err != nil {
		return err
	}
	index := dev.Attrs().Index
	for i := range paths {
		if paths[i].overlay {
			paths[i].link = index
		}
	}
	for _, p := range far {
		if err := n.nl.NeighSet(neighbour(index, p.PodCIDR.Addr(), overlayMAC(p.PodCIDR))); err != nil {
			return fmt.Errorf("add overlay neighbour of node %s: %w", p.Node, err)
		}
		if err := n.nl.NeighSet(forwarding(index, p)); err != nil {
			return fmt.Errorf("add overlay forwarding to node %s: %w", p.Node, err)
		}
	}
	return n.pruneOverlay(index, far)
}

// overlay returns the VXLAN device, made and up. Its hardware address and its
// IP address follow from the pod range, so that peers know them unasked.
func (n *Network) overlay() (netlink.Link, error) {
	n.mu.Lock()
	cidr := n.addrs.cidr
	n.mu.Unlock()
	if !cidr.IsValid() {
		return nil, errors.New("overlay needs this node's pod CIDR first")
	}
	link, err := n.nl.LinkByName(n.overlayName())
	if err == nil && !n.usableOverlay(link, cidr) {
		if err := n.deleteLink(n.overlayName()); err != nil {
			return nil, err
		}
		err = unix.ENODEV
	}
	if isNoLink(err) {
		link, err = n.addOverlay(cidr)
	}
	if err != nil {
		return nil, fmt.Errorf("overlay device %s: %w", n.overlayName(), err)
	}
	if err := n.nl.AddrReplace(link, &netlink.Addr{IPNet: hostNet(cidr.Addr())}); err != nil {
		return nil, fmt.Errorf("add address to %s: %w", n.overlayName(), err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", n.overlayName(), err)
	}
	return link, nil
}

func (n *Network) usableOverlay(link netlink.Link, cidr netip.Prefix) bool {
	v, ok := link.(*netlink.Vxlan)
	return ok && v.VxlanId == overlayVNI && v.Port == overlayPort &&
		v.HardwareAddr.String() == overlayMAC(cidr).String() && addrOf(v.SrcAddr) == n.cfg.NodeIP
}

func (n *Network) addOverlay(cidr netip.Prefix) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.overlayName()
	attrs.HardwareAddr = overlayMAC(cidr)
	attrs.MTU = n.podMTU()
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: overlayVNI, Port: overlayPort, SrcAddr: n.cfg.NodeIP.AsSlice()}
	if err := n.nl.LinkAdd(dev); err != nil {
		return nil, err
	}
	link, err := n.nl.LinkByName(attrs.Name)
	if err != nil {
		return nil, err
	}
	_ = n.nl.LinkSetIP6AddrGenMode(link, addrGenModeNone)
	// A node's own traffic may come in here and leave by another link.
	return link, n.inHost(func() error { return setSysctl("ipv4/conf/"+attrs.Name+"/rp_filter", "2") })
}

// pruneOverlay removes the neighbours and forwarding entries of peers gone.
func (n *Network) pruneOverlay(index int, far []Peer) error {
	for _, family := range []int{netlink.FAMILY_V4, unix.AF_BRIDGE} {
		entries, err := n.nl.NeighList(index, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list overlay neighbours: %w", err)
		}
		for _, e := range entries {
			wanted := slices.ContainsFunc(far, func(p Peer) bool {
				if e.HardwareAddr.String() != overlayMAC(p.PodCIDR).String() {
					return false
				}
				return family == netlink.FAMILY_V4 || addrOf(e.IP) == p.IP
			})
			if wanted || e.LinkIndex != index || len(e.HardwareAddr) == 0 {
				continue
			}
			e.Family = family
			if err := n.nl.NeighDel(&e); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove overlay neighbour %s: %w", e.IP, err)
			}
		}
	}
	return nil
}

func forwarding(index int, p Peer) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: p.IP.AsSlice(), HardwareAddr: overlayMAC(p.PodCIDR),
	}
}

// overlayMAC is the hardware address of the overlay device of the node that has
// this pod range.
func overlayMAC(cidr netip.Prefix) net.HardwareAddr {
	return append(net.HardwareAddr{0x0e, 0x4b}, cidr.Masked().Addr().AsSlice()...)
}

// syncOverlayGuard lets only the far peers speak VXLAN to this node. Without
// any, the port is left to whoever else uses it.
func (n *Network) syncOverlayGuard(far []Peer) error {
	return n.transact(func(c *nftables.Conn, r ruleset) error {
		guard := c.AddChain(&nftables.Chain{
			Table: r.table, Name: "overlay", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		})
		c.FlushChain(guard)
		c.FlushSet(r.peers)
		if len(far) == 0 {
			c.DelChain(guard)
			return nil
		}
		elements := make([]nftables.SetElement, 0, len(far))
		for _, p := range far {
			elements = append(elements, nftables.SetElement{Key: p.IP.AsSlice()})
		}
		c.AddRule(&nftables.Rule{Table: r.table, Chain: guard, Exprs: join(udpPort(overlayPort), loadSaddr(regA), notIn(r.peers), verdict(expr.VerdictDrop))})
		return c.SetAddElements(r.peers, elements)
	})
}

func udpPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regA, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: regA, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regA, Data: []byte{byte(port >> 8), byte(port & 0xff)}},
	}
}
