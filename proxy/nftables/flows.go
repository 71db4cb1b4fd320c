package nftables

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/proxy"
)

// staleFlows matches UDP connection tracking entries that would keep sending
// packets where the rules no longer send them.
type staleFlows struct {
	gone map[flowKey]bool   // service and the endpoint it lost
	born map[serviceID]bool // services that packets may have passed by before
}

type serviceID struct {
	addr netip.Addr // unspecified for a node port
	port uint16
}

type flowKey struct {
	service  serviceID
	endpoint netip.AddrPort
}

// forgetFlows removes UDP flows made stale by a delta that is in force.
func (b *Backend) forgetFlows(d delta, now *state) error {
	stale := newStaleFlows(d, now)
	if len(stale.gone)+len(stale.born) == 0 {
		return nil
	}
	h, err := netlink.NewHandleAt(b.ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open conntrack: %w", err)
	}
	defer h.Close()
	if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, stale); err != nil {
		return fmt.Errorf("delete stale UDP flows: %w", err)
	}
	return nil
}

func newStaleFlows(d delta, now *state) staleFlows {
	s := staleFlows{gone: map[flowKey]bool{}, born: map[serviceID]bool{}}
	for _, e := range d.del {
		if e.set != endpoints || e.key[4] != unix.IPPROTO_UDP {
			continue
		}
		id, at := parseServiceID(e.key), parseAddrPort(e.value)
		if !slices.Contains(now.endpointsOf(e.key), at) {
			s.gone[flowKey{id, at}] = true
		}
	}
	for _, e := range d.add {
		if e.set == services && e.key[4] == unix.IPPROTO_UDP {
			s.born[parseServiceID(e.key)] = true
		}
	}
	return s
}

// endpointsOf are the endpoints of the service that key begins with.
func (s *state) endpointsOf(key string) []netip.AddrPort {
	id := parseServiceID(key)
	want := proxy.ServicePort{Addr: id.addr, Port: id.port, Proto: "TCP"}
	if key[4] == unix.IPPROTO_UDP {
		want.Proto = "UDP"
	}
	if id.addr.IsUnspecified() {
		want.Addr, want.NodePort = netip.Addr{}, true
	}
	i, found := slices.BinarySearchFunc(s.services, want, func(a, b proxy.ServicePort) int { return compareKeys(&a, &b) })
	if !found {
		return nil
	}
	return s.services[i].Endpoints
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, from := addrOf(f.Forward.DstIP), addrOf(f.Reverse.SrcIP)
	at := netip.AddrPortFrom(from, f.Reverse.SrcPort)
	cluster := serviceID{to, f.Forward.DstPort}
	node := serviceID{netip.IPv4Unspecified(), f.Forward.DstPort}
	if from == to { // not translated
		return s.born[cluster] || s.born[node]
	}
	return s.gone[flowKey{cluster, at}] || s.gone[flowKey{node, at}]
}

func parseServiceID(key string) serviceID {
	return serviceID{netip.AddrFrom4([4]byte([]byte(key[:4]))), binary.BigEndian.Uint16([]byte(key[8:10]))}
}

func parseAddrPort(v string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte([]byte(v[:4]))), binary.BigEndian.Uint16([]byte(v[4:6])))
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
