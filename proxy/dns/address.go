package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addressLabel marks the addresses this package added.
const addressLabel = "lo:evenkeel-dns"

// AddAddress gives lo, in the network namespace of the calling thread, an
// address to listen on. It is never chosen as a source for other traffic. An
// address that is there already, on any interface, is left as it is.
func AddAddress(ip netip.Addr) error {
	if !ip.Is4() {
		return fmt.Errorf("DNS address %s is not IPv4", ip)
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		if a.IP.Equal(ip.AsSlice()) {
			return nil
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Scope: int(netlink.SCOPE_HOST), Label: addressLabel,
	}
	if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to lo: %w", ip, err)
	}
	return nil
}

// RemoveAddresses takes away every address AddAddress gave lo in the network
// namespace of the calling thread.
func RemoveAddresses() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	addrs, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of lo: %w", err)
	}
	for _, a := range addrs {
		if a.Label != addressLabel {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from lo: %w", a.IP, err)
		}
	}
	return nil
}
