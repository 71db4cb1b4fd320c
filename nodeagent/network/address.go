package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// pool hands out the addresses of a range, each to one owner. It continues
// after the last one given, so that an address rests before it is used again.
type pool struct {
	cidr   netip.Prefix
	next   uint32
	owners map[netip.Addr]string
	addrs  map[string]netip.Addr
}

func newPool(cidr netip.Prefix) *pool {
	p := &pool{owners: map[netip.Addr]string{}, addrs: map[string]netip.Addr{}}
	p.setRange(cidr)
	return p
}

// setRange changes where new addresses come from and reports whether that is
// news. Addresses given out stay given out.
func (p *pool) setRange(cidr netip.Prefix) bool {
	if !cidr.IsValid() || cidr.Masked() == p.cidr {
		return false
	}
	p.cidr = cidr.Masked()
	p.next = 0
	return true
}

// bounds are the first and the last address pods may have: all but the network
// address, the one after it and the broadcast address.
func (p *pool) bounds() (first, last uint32) {
	base := toUint(p.cidr.Addr())
	size := uint32(1) << (32 - p.cidr.Bits())
	return base + 2, base + size - 2
}

// acquire returns the owner's address, a new one if it has none.
func (p *pool) acquire(owner string) (netip.Addr, error) {
	if a, ok := p.addrs[owner]; ok {
		return a, nil
	}
	if !p.cidr.IsValid() {
		return netip.Addr{}, fmt.Errorf("no pod CIDR is known yet")
	}
	first, last := p.bounds()
	if p.next < first || p.next > last {
		p.next = first
	}
	for range last - first + 1 {
		a := fromUint(p.next)
		if p.next++; p.next > last {
			p.next = first
		}
		if _, used := p.owners[a]; !used {
			p.set(a, owner)
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod CIDR %s is full: %d addresses in use", p.cidr, len(p.owners))
}

// reserve notes an address found in use. New ones are taken from after it.
func (p *pool) reserve(a netip.Addr, owner string) {
	p.set(a, owner)
	if p.cidr.IsValid() && p.cidr.Contains(a) && toUint(a) >= p.next {
		p.next = toUint(a) + 1
	}
}

func (p *pool) set(a netip.Addr, owner string) {
	p.owners[a] = owner
	p.addrs[owner] = a
}

func (p *pool) of(owner string) netip.Addr { return p.addrs[owner] }

func (p *pool) release(owner string) {
	if a, ok := p.addrs[owner]; ok {
		delete(p.addrs, owner)
		delete(p.owners, a)
	}
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
