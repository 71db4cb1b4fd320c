package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/proxy"
)

// setID names one of the table's sets and maps.
type setID int

const (
	services  setID = iota // address, protocol, port -> chain
	endpoints              // address, protocol, port, index -> address, port
	addresses              // every cluster IP
	dead                   // protocol, port of node ports without endpoint
	local                  // address, the same address of each endpoint on this node
	setCount
)

// element is one entry of a set. Keys and values are as the kernel has them;
// for services the value is the chain's name.
type element struct {
	set        setID
	key, value string
}

// elementsOf is what one service port puts into the sets; addresses aside,
// which services share. The endpoints of a sticky one are there for the record:
// they tell the next process which UDP flows it has to end.
func elementsOf(sp proxy.ServicePort) []element {
	key := portKey(sp)
	if len(sp.Endpoints) == 0 {
		if sp.NodePort {
			return []element{{set: dead, key: key[4:]}}
		}
		return nil
	}
	out := make([]element, 0, len(sp.Endpoints)+1)
	out = append(out, element{services, key, chainName(sp)})
	for i, e := range sp.Endpoints {
		index := binary.NativeEndian.AppendUint32(nil, uint32(i))
		out = append(out, element{endpoints, key + string(index), addrPortValue(e)})
	}
	return out
}

// portKey is address (zero for node ports), protocol and port, each in four
// bytes.
func portKey(sp proxy.ServicePort) string {
	var k [12]byte
	if sp.Addr.Is4() {
		copy(k[:], sp.Addr.AsSlice())
	}
	k[4] = protoNumber(sp.Proto)
	binary.BigEndian.PutUint16(k[8:], sp.Port)
	return string(k[:])
}

func protoNumber(p corev1.Protocol) byte {
	if p == corev1.ProtocolUDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func addrPortValue(a netip.AddrPort) string {
	var v [8]byte
	copy(v[:], a.Addr().AsSlice())
	binary.BigEndian.PutUint16(v[4:], a.Port())
	return string(v[:])
}

// chain is one that picks among count endpoints, for all services with so many.
type chain struct {
	count    int
	nodePort bool
}

func (c chain) String() string {
	if c.nodePort {
		return fmt.Sprintf("node-%d", c.count)
	}
	return fmt.Sprintf("cluster-%d", c.count)
}

// isSticky tells whether the service port has a chain of its own.
func isSticky(sp *proxy.ServicePort) bool {
	return sp != nil && sp.SessionAffinity > 0 && len(sp.Endpoints) > 0
}

// chainName is the chain that a service port with endpoints leads to.
func chainName(sp proxy.ServicePort) string {
	switch {
	case !isSticky(&sp):
		return chain{len(sp.Endpoints), sp.NodePort}.String()
	case sp.NodePort:
		return strings.ToLower(fmt.Sprintf("sticky-node-%s-%d", sp.Proto, sp.Port))
	}
	return strings.ToLower(fmt.Sprintf("sticky-%s-%s-%d", sp.Addr, sp.Proto, sp.Port))
}

// state is what the table holds beside its fixed part. One that was read from
// the kernel has elements only; a wanted one knows its services.
type state struct {
	services  []proxy.ServicePort // sorted as in a Ruleset
	addresses []netip.Addr        // sorted
	local     []netip.Addr        // sorted
	chains    map[chain]int       // users of each chain
	read      *kernelState        // nil for a wanted state
}

// kernelState is what was read back.
type kernelState struct {
	elements map[element]bool
	chains   map[string]bool
	sets     map[string]bool
}

func newState(rules proxy.Ruleset) *state {
	s := &state{chains: map[chain]int{}}
	s.services = make([]proxy.ServicePort, 0, len(rules.Services))
	for _, sp := range rules.Services {
		if !usable(sp) {
			continue
		}
		s.services = append(s.services, sp)
		if len(sp.Endpoints) > 0 && !isSticky(&sp) {
			s.chains[chain{len(sp.Endpoints), sp.NodePort}]++
		}
		if !sp.NodePort && (len(s.addresses) == 0 || s.addresses[len(s.addresses)-1] != sp.Addr) {
			s.addresses = append(s.addresses, sp.Addr)
		}
	}
	for _, a := range rules.Local {
		if a.Is4() {
			s.local = append(s.local, a)
		}
	}
	return s
}

// usable leaves out IPv6, which pods do not have.
func usable(sp proxy.ServicePort) bool {
	if !sp.NodePort && !sp.Addr.Is4() {
		return false
	}
	return !slices.ContainsFunc(sp.Endpoints, func(e netip.AddrPort) bool { return !e.Addr().Is4() })
}

// elements lists everything the state wants in the sets.
func (s *state) elements() []element {
	var out []element
	for _, sp := range s.services {
		out = append(out, elementsOf(sp)...)
	}
	for _, a := range s.addresses {
		out = append(out, addressElement(a))
	}
	for _, a := range s.local {
		out = append(out, localElement(a))
	}
	return out
}

func addressElement(a netip.Addr) element { return element{set: addresses, key: string(a.AsSlice())} }

func localElement(a netip.Addr) element {
	return element{set: local, key: string(a.AsSlice()) + string(a.AsSlice())}
}
