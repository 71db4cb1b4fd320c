package nftables

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/evenkeel/evenkeel/proxy"
)

// delta is one transaction: what goes, what comes, and whether the fixed part
// of the table is written again.
type delta struct {
	base       bool
	del, add   []element
	delChains  []string
	addChains  []chain
	stickies   []proxy.ServicePort // whose own chains are written again
	delSets    []string
	everything *state // the wanted state, to start over with if need be
}

func (d delta) empty() bool {
	return !d.base && len(d.del)+len(d.add)+len(d.delChains)+len(d.addChains)+len(d.stickies)+len(d.delSets) == 0
}

// to is the way from s to want.
func (s *state) to(want *state) delta {
	if s.read != nil {
		return s.read.to(want)
	}
	var d delta
	mergeWalk(s.services, want.services, compareKeys, func(old, new *proxy.ServicePort) {
		d.change(old, new)
	})
	walkAddrs(s.addresses, want.addresses, addressElement, &d)
	walkAddrs(s.local, want.local, localElement, &d)
	for c := range want.chains {
		if s.chains[c] == 0 {
			d.addChains = append(d.addChains, c)
		}
	}
	for c := range s.chains {
		if want.chains[c] == 0 {
			d.delChains = append(d.delChains, c.String())
		}
	}
	d.everything = want
	return d
}

// change adds what turns one service port into another; either may be nil.
func (d *delta) change(old, new *proxy.ServicePort) {
	var before, after []element
	if old != nil && new != nil && sameTraffic(*old, *new) {
		return
	}
	switch {
	case isSticky(new):
		d.stickies = append(d.stickies, *new)
	case isSticky(old):
		d.delChains = append(d.delChains, chainName(*old))
	}
	if old != nil {
		before = elementsOf(*old)
	}
	if new != nil {
		after = elementsOf(*new)
	}
	had := make(map[element]bool, len(before))
	for _, e := range before {
		had[e] = true
	}
	for _, e := range after {
		if had[e] {
			delete(had, e)
			continue
		}
		d.add = append(d.add, e)
	}
	for _, e := range before {
		if had[e] {
			d.del = append(d.del, e)
		}
	}
}

func sameTraffic(a, b proxy.ServicePort) bool {
	return a.SessionAffinity == b.SessionAffinity && slices.Equal(a.Endpoints, b.Endpoints)
}

// to is the way from what the kernel holds. It writes the fixed part and every
// chain again, so that an older program's are replaced.
func (k *kernelState) to(want *state) delta {
	d := delta{base: true, everything: want}
	keep := map[element]bool{}
	for _, e := range want.elements() {
		if k.elements[e] {
			keep[e] = true
			continue
		}
		d.add = append(d.add, e)
	}
	for e := range k.elements {
		if !keep[e] {
			d.del = append(d.del, e)
		}
	}
	names := map[string]bool{}
	for _, sp := range want.services {
		if isSticky(&sp) {
			d.stickies = append(d.stickies, sp)
			names[chainName(sp)] = true
		}
	}
	for c := range want.chains {
		d.addChains = append(d.addChains, c)
		names[c.String()] = true
	}
	for name := range k.chains {
		if !names[name] && !isBaseChain(name) {
			d.delChains = append(d.delChains, name)
		}
	}
	for name := range k.sets {
		if !isSet(name) {
			d.delSets = append(d.delSets, name)
		}
	}
	return d
}

func compareKeys(a, b *proxy.ServicePort) int {
	if a.NodePort != b.NodePort {
		if a.NodePort {
			return 1
		}
		return -1
	}
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
}

// mergeWalk visits the union of two sorted lists; a side that lacks the key is
// nil.
func mergeWalk[T any](a, b []T, compare func(x, y *T) int, visit func(x, y *T)) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0:
			visit(&a[0], nil)
			a = a[1:]
		case len(a) == 0:
			visit(nil, &b[0])
			b = b[1:]
		default:
			c := compare(&a[0], &b[0])
			var x, y *T
			if c <= 0 {
				x, a = &a[0], a[1:]
			}
			if c >= 0 {
				y, b = &b[0], b[1:]
			}
			visit(x, y)
		}
	}
}

func walkAddrs(old, new []netip.Addr, elem func(netip.Addr) element, d *delta) {
	compare := func(x, y *netip.Addr) int { return x.Compare(*y) }
	mergeWalk(old, new, compare, func(x, y *netip.Addr) {
		switch {
		case x == nil:
			d.add = append(d.add, elem(*y))
		case y == nil:
			d.del = append(d.del, elem(*x))
		}
	})
}
