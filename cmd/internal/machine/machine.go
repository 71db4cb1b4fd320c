// Package machine tells who this machine is: its name and address as a node.
// The programs call it for what their flags leave out.
package machine

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// DefaultDNS is where pods ask for names: an address on every node's lo.
const DefaultDNS = "169.254.20.10"

// Identity returns the node's name and address: those given, or else the
// host's name and the address that it uses towards others.
func Identity(name, ip string) (string, string, error) {
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", "", fmt.Errorf("--node-name: %w", err)
		}
		name = strings.ToLower(host)
	}
	if ip == "" {
		ip = ownAddress().String()
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return "", "", fmt.Errorf("--node-ip: %w", err)
	}
	if addr.IsLoopback() {
		return "", "", fmt.Errorf("node address %s: pods cannot answer to loopback; connect the machine to a network, or give another address with --node-ip", ip)
	}
	return name, ip, nil
}

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
