package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// routeProtocol marks the routes of this package in the kernel's table.
	routeProtocol = 78
	// podLink is the name of the interface inside a pod.
	podLink = "eth0"
	// overlayOverhead is kept free in every packet so that it fits into VXLAN.
	overlayOverhead = 50
	addrGenModeNone = 1
)

// gateway is the address pods send everything to. It exists nowhere: a
// permanent neighbour entry leads to the host side of the pair.
var gateway = netip.MustParseAddr("169.254.1.1")

// veth is the host side of a pod's interface pair as the kernel knows it.
type veth struct {
	link netlink.Link // nil when there is none
	uid  string       // empty when the alias was not written yet
	ip   netip.Addr
}

func (n *Network) alias(uid string, ip netip.Addr) string {
	return fmt.Sprintf("evenkeel %s %s %s", n.cfg.Node, uid, ip)
}

func (n *Network) parseVeth(link netlink.Link) veth {
	v := veth{link: link}
	f := strings.Fields(link.Attrs().Alias)
	if len(f) != 4 || f[0] != "evenkeel" || f[1] != n.cfg.Node {
		return v
	}
	ip, err := netip.ParseAddr(f[3])
	if err != nil || !ip.Is4() {
		return v
	}
	v.uid, v.ip = f[2], ip
	return v
}

// veth returns the pair of one pod; its link is nil when there is none.
func (n *Network) veth(uid string) (veth, error) {
	link, err := n.nl.LinkByName(n.vethName(uid))
	if isNoLink(err) {
		return veth{}, nil
	}
	if err != nil {
		return veth{}, fmt.Errorf("look up %s: %w", n.vethName(uid), err)
	}
	return n.parseVeth(link), nil
}

// veths returns the pairs of this node, also those with no pod to be known.
func (n *Network) veths() ([]veth, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	var out []veth
	for _, l := range links {
		if l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, n.prefix) {
			out = append(out, n.parseVeth(l))
		}
	}
	return out, nil
}

// links lists the node's interfaces. The kernel says when a list changed under
// the reader's eyes; such a list is read again.
func (n *Network) links() ([]netlink.Link, error) {
	for range 10 {
		links, err := n.nl.LinkList()
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		return links, nil
	}
	return nil, fmt.Errorf("list interfaces: %w", netlink.ErrDumpInterrupted)
}

// connect joins the pinned network namespace to the node and returns its
// address. The host side comes up last: a pair that is up is complete.
func (n *Network) connect(uid, netnsPath string) (netip.Addr, error) {
	v, err := n.veth(uid)
	if err != nil {
		return netip.Addr{}, err
	}
	if v.link != nil && v.ip.IsValid() && v.link.Attrs().Flags&net.FlagUp != 0 {
		return v.ip, n.connectHost(v.link, uid, v.ip)
	}
	if err := n.deleteLink(n.vethName(uid)); err != nil {
		return netip.Addr{}, err
	}
	n.mu.Lock()
	ip, err := n.addrs.acquire(uid)
	n.mu.Unlock()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := n.makePair(uid, ip, netnsPath); err != nil {
		return netip.Addr{}, err
	}
	return ip, nil
}

func (n *Network) makePair(uid string, ip netip.Addr, netnsPath string) error {
	pod, err := netns.GetFromPath(netnsPath)
	if err != nil {
		return fmt.Errorf("open %s: %w", netnsPath, err)
	}
	defer func() { _ = pod.Close() }()
	inside, err := netlink.NewHandleAt(pod, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open route netlink in %s: %w", netnsPath, err)
	}
	defer inside.Close()
	if err := deleteLink(inside, podLink); err != nil {
		return err
	}
	link, err := n.addVeth(uid, ip, pod)
	if err != nil {
		return err
	}
	if err := connectPod(inside, ip, hardwareAddr("host", uid)); err != nil {
		return err
	}
	if err := n.connectHost(link, uid, ip); err != nil {
		return err
	}
	for _, end := range []struct {
		nl   *netlink.Handle
		name string
	}{{inside, podLink}, {n.nl, link.Attrs().Name}} {
		if err := waitUp(end.nl, end.name); err != nil {
			return err
		}
	}
	return nil
}

// waitUp returns once the interface sends. The kernel learns a moment after
// both ends are up that they have a carrier; until then it silently drops what
// is sent, and a pod's first question to DNS would be lost. Newer kernels (6.8)
// catch up when asked, so this waits on older ones only.
func waitUp(nl *netlink.Handle, name string) error {
	const patience, step = time.Second, time.Millisecond
	for waited := time.Duration(0); waited < patience; waited += step {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("look up %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		time.Sleep(step)
	}
	return fmt.Errorf("%s has no carrier after %s", name, patience)
}

// addVeth makes both ends in place, the pod's directly in its namespace.
func (n *Network) addVeth(uid string, ip netip.Addr, pod netns.NsHandle) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.vethName(uid)
	attrs.HardwareAddr = hardwareAddr("host", uid)
	attrs.MTU = n.podMTU()
	pair := netlink.NewVeth(attrs)
	pair.PeerName = podLink
	pair.PeerNamespace = netlink.NsFd(int(pod))
	pair.PeerHardwareAddr = hardwareAddr("pod", uid)
	pair.PeerMTU = uint32(attrs.MTU)
	if err := n.nl.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("add %s: %w", attrs.Name, err)
	}
	link, err := n.nl.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", attrs.Name, err)
	}
	if err := n.nl.LinkSetAlias(link, n.alias(uid, ip)); err != nil {
		return nil, fmt.Errorf("set alias of %s: %w", attrs.Name, err)
	}
	if err := n.setLinkSysctls(attrs.Name); err != nil {
		return nil, err
	}
	// Not every kernel has IPv6; without it there is nothing to keep quiet.
	_ = n.nl.LinkSetIP6AddrGenMode(link, addrGenModeNone)
	return link, nil
}

// connectPod configures a pod's side: lo, address, gateway, default route.
func connectPod(nl *netlink.Handle, ip netip.Addr, gatewayMAC net.HardwareAddr) error {
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo of the pod: %w", err)
	}
	eth, err := nl.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("look up %s of the pod: %w", podLink, err)
	}
	_ = nl.LinkSetIP6AddrGenMode(eth, addrGenModeNone)
	index := eth.Attrs().Index
	steps := []struct {
		what string
		do   func() error
	}{
		{"bring up lo", func() error { return nl.LinkSetUp(lo) }},
		{"bring up " + podLink, func() error { return nl.LinkSetUp(eth) }},
		{"add address " + ip.String(), func() error { return nl.AddrReplace(eth, &netlink.Addr{IPNet: hostNet(ip)}) }},
		{"add gateway's neighbour entry", func() error { return nl.NeighSet(neighbour(index, gateway, gatewayMAC)) }},
		{"add gateway route", func() error {
			return nl.RouteReplace(&netlink.Route{LinkIndex: index, Dst: hostNet(gateway), Scope: netlink.SCOPE_LINK})
		}},
		{"add default route", func() error {
			return nl.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
		}},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s in the pod: %w", s.what, err)
		}
	}
	return nil
}

// connectHost points the node at the pod. It is repeated on every Setup, so
// that a route or an entry someone removed comes back.
func (n *Network) connectHost(link netlink.Link, uid string, ip netip.Addr) error {
	name, index := link.Attrs().Name, link.Attrs().Index
	if err := n.nl.NeighSet(neighbour(index, ip, hardwareAddr("pod", uid))); err != nil {
		return fmt.Errorf("add neighbour %s on %s: %w", ip, name, err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	route := &netlink.Route{
		LinkIndex: index, Dst: hostNet(ip), Scope: netlink.SCOPE_LINK,
		Protocol: routeProtocol, Src: n.cfg.NodeIP.AsSlice(),
	}
	err := n.nl.RouteReplace(route)
	if errors.Is(err, unix.EINVAL) { // the node's address is not on this machine
		route.Src = nil
		err = n.nl.RouteReplace(route)
	}
	if err != nil {
		return fmt.Errorf("add route to %s by %s: %w", ip, name, err)
	}
	return nil
}

func (n *Network) deleteLink(name string) error { return deleteLink(n.nl, name) }

// deleteLink removes an interface, and with it its addresses, routes and peer.
func deleteLink(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	if isNoLink(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if err := nl.LinkDel(link); err != nil && !isNoLink(err) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

func isNoLink(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// podMTU is what fits through the node's own interface, in VXLAN if need be.
func (n *Network) podMTU() int {
	const usual = 1500
	mtu := usual
	routes, err := n.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: hostNet(n.cfg.NodeIP)}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err == nil && len(routes) > 0 {
		if link, err := n.nl.LinkByIndex(routes[0].LinkIndex); err == nil && link.Attrs().Flags&net.FlagLoopback == 0 {
			mtu = link.Attrs().MTU
		}
	}
	return mtu - overlayOverhead
}

func neighbour(index int, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: ip.AsSlice(), HardwareAddr: mac,
	}
}

// hardwareAddr derives a locally administered unicast address.
func hardwareAddr(parts ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02
	return mac
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
