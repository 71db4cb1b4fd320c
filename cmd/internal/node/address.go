package node

import (
	"net"
	"net/netip"
)

// ownAddress is the address that this machine uses towards others: the one of
// its default route, else the first that is not only local, else loopback.
func ownAddress() netip.Addr {
	// Connecting a UDP socket sends nothing; the address is TEST-NET-1.
	if conn, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer conn.Close()
		if addr, ok := netip.AddrFromSlice(conn.LocalAddr().(*net.UDPAddr).IP.To4()); ok {
			return addr
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
				return prefix.Addr()
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
