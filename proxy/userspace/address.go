package userspace

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addressLabel marks the cluster IPs on lo.
const addressLabel = "lo:evenkeel-svc"

// syncAddresses makes the cluster IPs on lo exactly these. They are of host
// scope: never a source of other traffic.
func syncAddresses(want []netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	have, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of lo: %w", err)
	}
	present := map[netip.Addr]bool{}
	var errs []error
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		present[ip] = true
		if a.Label != addressLabel || slices.Contains(want, ip) {
			continue
		}
		if err := netlink.AddrDel(lo, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove %s from lo: %w", ip, err))
		}
	}
	for _, ip := range want {
		if present[ip] {
			continue
		}
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)},
			Scope: int(netlink.SCOPE_HOST), Label: addressLabel,
		}
		if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("add %s to lo: %w", ip, err))
		}
	}
	return errors.Join(errs...)
}
