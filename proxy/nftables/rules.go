package nftables

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/evenkeel/evenkeel/proxy"
)

// Registers of four bytes, side by side.
const (
	r0 = unix.NFT_REG_1
	r1 = unix.NFT_REG32_01
	r2 = unix.NFT_REG32_02
	r3 = unix.NFT_REG32_03
	r4 = unix.NFT_REG_2
	r5 = unix.NFT_REG32_05
	r8 = unix.NFT_REG_3
	r9 = unix.NFT_REG32_09
)

// nodePortMark is the packet mark of node port traffic between prerouting and
// postrouting; other bits are left alone. It is the bit kube-proxy uses.
const nodePortMark = 0x4000

const dstNAT = 1 << 5 // IPS_DST_NAT of the connection's status

// baseRules lists the rules of each base chain.
func (s schema) baseRules() map[string][][]expr.Any {
	dispatch := [][]expr.Any{
		join(daddr(r0), protoPort(r1, r2), s.vmap()),
		join(daddrIsLocal(), anyAddr(r0), protoPort(r1, r2), s.vmap()),
	}
	refuse := [][]expr.Any{
		join(daddr(r0), s.in(addresses), isTCP(), reset()),
		join(daddr(r0), s.in(addresses), unreachable()),
		join(daddrIsLocal(), protoPort(r0, r1), s.in(dead), isTCP(), reset()),
		join(daddrIsLocal(), protoPort(r0, r1), s.in(dead), unreachable()),
	}
	return map[string][][]expr.Any{
		"guard":      {join(notFromLo(), daddr(r0), loopback(), drop())},
		"prerouting": dispatch,
		"output":     dispatch,
		"postrouting": {
			// An endpoint that reached itself must see another source.
			join(saddr(r0), daddr(r1), s.in(local), isDNAT(), masquerade()),
			join(isMarked(), saddr(r0), loopback(), masquerade()),
			// What came for a node port and goes to another node comes back by us.
			join(isMarked(), daddr(r0), daddr(r1), s.notIn(local), masquerade()),
		},
		"refuse-in":  refuse,
		"refuse-out": refuse,
	}
}

// spreadRules are the rules of a chain that picks one of c.count endpoints of
// any service.
func (s schema) spreadRules(c chain) [][]expr.Any {
	service := daddr
	var mark []expr.Any
	if c.nodePort {
		service, mark = anyAddr, setMark()
	}
	return [][]expr.Any{join(
		mark, service(r0), protoPort(r1, r2),
		[]expr.Any{
			&expr.Numgen{Register: r3, Modulus: uint32(c.count), Type: unix.NFT_NG_RANDOM},
			&expr.Lookup{SourceRegister: r0, DestRegister: r4, IsDestRegSet: true, SetName: setNames[endpoints]},
		},
		dnat(r4, r5))}
}

// stickyRules are the rules of the chain of one service that keeps clients. A
// set of (client, service, endpoint) remembers: a map to the endpoint would do
// with two rules, but nft 1.0 dies of an assertion when it lists them.
func (s schema) stickyRules(sp proxy.ServicePort) [][]expr.Any {
	var rules [][]expr.Any
	if sp.NodePort {
		rules = append(rules, setMark())
	}
	key := portKey(sp)
	remember := []expr.Any{&expr.Dynset{
		SrcRegKey: r0, SetName: affinityName, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: sp.SessionAffinity,
	}}
	known := []expr.Any{&expr.Lookup{SourceRegister: r0, SetName: affinityName}}
	held := func(e netip.AddrPort) []expr.Any {
		return join(saddr(r0), load(r1, key[:4]), load(r2, key[4:5]), load(r3, key[8:10]), load(r4, string(e.Addr().AsSlice())))
	}
	to := func(e netip.AddrPort) []expr.Any {
		v := addrPortValue(e)
		return join(load(r8, v[:4]), load(r9, v[4:6]), dnat(r8, r9))
	}
	for _, e := range sp.Endpoints {
		rules = append(rules, join(held(e), known, remember, to(e)))
	}
	for i, e := range sp.Endpoints {
		rules = append(rules, join(oneIn(len(sp.Endpoints)-i), held(e), remember, to(e)))
	}
	return rules
}

// oneIn matches one packet in n.
func oneIn(n int) []expr.Any {
	if n == 1 {
		return nil
	}
	return []expr.Any{
		&expr.Numgen{Register: r0, Modulus: uint32(n), Type: unix.NFT_NG_RANDOM},
		equal(r0, native32(0)),
	}
}

func load(reg uint32, value string) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg, Data: []byte(value)}}
}

func (s schema) vmap() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: r0, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: setNames[services]}}
}

func (s schema) in(id setID) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: r0, SetName: setNames[id]}}
}

func (s schema) notIn(id setID) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: r0, SetName: setNames[id], Invert: true}}
}

func join(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func saddr(reg uint32) []expr.Any { return networkHeader(reg, 12) }
func daddr(reg uint32) []expr.Any { return networkHeader(reg, 16) }

func networkHeader(reg, offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}}
}

func anyAddr(reg uint32) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: reg, Data: make([]byte, 4)}}
}

func protoPort(proto, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func equal(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

func isTCP() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: r0}, equal(r0, []byte{unix.IPPROTO_TCP})}
}

func loopback() []expr.Any { return []expr.Any{equal(r0, []byte{127})} }

func notFromLo() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: r0},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: r0, Data: []byte("lo\x00")},
	}
}

func daddrIsLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: r0, FlagDADDR: true, ResultADDRTYPE: true},
		equal(r0, native32(unix.RTN_LOCAL)),
	}
}

func isDNAT() []expr.Any {
	return join([]expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: r0}}, anyBit(dstNAT))
}

func isMarked() []expr.Any {
	return join([]expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: r0}}, anyBit(nodePortMark))
}

func anyBit(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: r0, DestRegister: r0, Len: 4, Mask: native32(bit), Xor: native32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: r0, Data: native32(0)},
	}
}

func setMark() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: r0},
		&expr.Bitwise{SourceRegister: r0, DestRegister: r0, Len: 4, Mask: native32(^uint32(nodePortMark)), Xor: native32(nodePortMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: r0, SourceRegister: true},
	}
}

func dnat(addr, port uint32) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: addr, RegProtoMin: port}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }
func drop() []expr.Any       { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func reset() []expr.Any      { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func unreachable() []expr.Any {
	const portUnreachable = 3
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreachable}}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// jump is the verdict of a service: on to its chain.
func jump(chain string) *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }
