package nftables

import (
	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

const family = nft.TableFamilyIPv4

// schema is the fixed part of the table: its sets and base chains.
type schema struct {
	t        *nft.Table
	sets     [setCount]*nft.Set
	affinity *nft.Set // client, address, protocol, port, endpoint; filled by packets
}

var setNames = [setCount]string{"services", "endpoints", "addresses", "dead", "local"}

const affinityName = "affinity"

func isSet(name string) bool {
	for _, n := range setNames {
		if n == name {
			return true
		}
	}
	return name == affinityName
}

func newSchema(table string) schema {
	t := &nft.Table{Family: family, Name: table}
	addr, proto, port := nft.TypeIPAddr, nft.TypeInetProto, nft.TypeInetService
	keys := [setCount]nft.SetDatatype{
		services:  nft.MustConcatSetType(addr, proto, port),
		endpoints: nft.MustConcatSetType(addr, proto, port, nft.TypeMark),
		addresses: addr,
		dead:      nft.MustConcatSetType(proto, port),
		local:     nft.MustConcatSetType(addr, addr),
	}
	s := schema{t: t}
	for id, key := range keys {
		s.sets[id] = &nft.Set{Table: t, Name: setNames[id], KeyType: key, KeyByteOrder: binaryutil.BigEndian}
	}
	s.sets[services].IsMap = true
	s.sets[services].DataType = nft.TypeVerdict
	s.sets[endpoints].IsMap = true
	s.sets[endpoints].DataType = nft.MustConcatSetType(addr, port)
	s.affinity = &nft.Set{
		Table: t, Name: affinityName, Dynamic: true, HasTimeout: true, Size: 1 << 18,
		KeyType: nft.MustConcatSetType(addr, addr, proto, port, addr), KeyByteOrder: binaryutil.BigEndian,
	}
	return s
}

func (s schema) baseChains() []*nft.Chain {
	base := func(name string, kind nft.ChainType, hook *nft.ChainHook, priority nft.ChainPriority) *nft.Chain {
		return &nft.Chain{Table: s.t, Name: name, Type: kind, Hooknum: hook, Priority: nft.ChainPriorityRef(priority)}
	}
	afterNAT := *nft.ChainPriorityNATDest + 10
	return []*nft.Chain{
		base("guard", nft.ChainTypeFilter, nft.ChainHookPrerouting, *nft.ChainPriorityRaw),
		base("prerouting", nft.ChainTypeNAT, nft.ChainHookPrerouting, *nft.ChainPriorityNATDest),
		base("output", nft.ChainTypeNAT, nft.ChainHookOutput, *nft.ChainPriorityNATDest),
		base("postrouting", nft.ChainTypeNAT, nft.ChainHookPostrouting, *nft.ChainPriorityNATSource),
		base("refuse-in", nft.ChainTypeFilter, nft.ChainHookPrerouting, afterNAT),
		base("refuse-out", nft.ChainTypeFilter, nft.ChainHookOutput, afterNAT),
	}
}

// loopbackMark is an empty chain that is there when this proxy opened routing
// to 127.0.0.0/8, which was closed before.
const loopbackMark = "loopback-was-closed"

func isBaseChain(name string) bool {
	switch name {
	case "guard", "prerouting", "output", "postrouting", "refuse-in", "refuse-out", loopbackMark:
		return true
	}
	return false
}
