package network

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of four bytes each; regA, regB and regC lie side by side.
const (
	regA = unix.NFT_REG_1
	regB = unix.NFT_REG32_01
	regC = unix.NFT_REG32_02
)

type chain struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

// chains is everything in the table that is not an element.
func (n *Network) chains(r ruleset) []chain {
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Table: r.table, Name: name, Type: kind, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority)}
	}
	// Host ports come before services, which use the priority of dstnat (-100).
	const beforeServices = -105
	hostports := [][]expr.Any{
		join(daddrIsLocal(), loadDaddr(regA), toPort(r.ports)),
		join(daddrIsLocal(), loadAnyAddr(regA), toPort(r.ports)),
	}
	return []chain{
		{base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw), [][]expr.Any{
			// Routing to 127.0.0.0/8 is open on pod links for the node's sake.
			join(ifname(expr.MetaKeyIIFNAME, n.prefix), daddrIsLoopback(), verdict(expr.VerdictDrop)),
		}},
		{base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, beforeServices), hostports},
		{base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, beforeServices), hostports},
		{base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource), n.postrouting(r)},
	}
}

func (n *Network) postrouting(r ruleset) [][]expr.Any {
	rules := [][]expr.Any{
		// A pod that reached itself through a host port or a service must see
		// another source, or it answers itself.
		join(loadSaddr(regA), loadDaddr(regB), in(r.pods), snat(n.cfg.NodeIP.AsSlice())),
		join(ifname(expr.MetaKeyOIFNAME, n.prefix), saddrIsLoopback(), snat(n.cfg.NodeIP.AsSlice())),
		// What is no pod's goes into the overlay with an address that comes back by it.
		join(ifname(expr.MetaKeyOIFNAME, n.overlayName()+"\x00"), isPod(r, true), masquerade()),
	}
	if n.cfg.Masquerade {
		rules = append(rules, join(isPod(r, false), loadDaddr(regA), notIn(r.ranges), masquerade()))
	}
	return rules
}

// isPod matches packets from a pod of this node, or with invert all others.
func isPod(r ruleset, invert bool) []expr.Any {
	return join(loadSaddr(regA), loadSaddr(regB), []expr.Any{&expr.Lookup{SourceRegister: regA, SetName: r.pods.Name, Invert: invert}})
}

// toPort sends the packet where the map says; regA holds the address to look up.
func toPort(ports *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regB},
		&expr.Payload{DestRegister: regC, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: regA, DestRegister: regA, IsDestRegSet: true, SetName: ports.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: regA, RegProtoMin: regB},
	}
}

func join(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func loadSaddr(reg uint32) []expr.Any { return loadAddr(reg, 12) }
func loadDaddr(reg uint32) []expr.Any { return loadAddr(reg, 16) }

func loadAddr(reg, offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}}
}

func loadAnyAddr(reg uint32) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg, Data: make([]byte, 4)}}
}

func daddrIsLocal() []expr.Any {
	local := binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
	return []expr.Any{
		&expr.Fib{Register: regA, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regA, Data: local},
	}
}

func saddrIsLoopback() []expr.Any { return join(loadSaddr(regA), firstByte(127)) }
func daddrIsLoopback() []expr.Any { return join(loadDaddr(regA), firstByte(127)) }

func firstByte(b byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: regA, Data: []byte{b}}}
}

// ifname matches interfaces whose name begins with prefix; one that ends in a
// zero byte is the whole name.
func ifname(key expr.MetaKey, prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: regA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regA, Data: []byte(prefix)},
	}
}

func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regA, SetName: s.Name}}
}

func notIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regA, SetName: s.Name, Invert: true}}
}

func snat(addr []byte) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: regA, Data: addr},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: regA},
	}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
