package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ruleset is the one nftables table of a node's pods:
//
//	set ranges    every range that pods reach with their own address
//	set pods      <pod IP, pod IP> of each pod of this node
//	set peers     the nodes that may send us VXLAN
//	map hostports <address or 0.0.0.0, protocol, port> to <pod IP, port>
type ruleset struct {
	table  *nftables.Table
	ranges *nftables.Set
	pods   *nftables.Set
	peers  *nftables.Set
	ports  *nftables.Set
}

func (n *Network) tableName() string { return "evenkeel-node-" + hash32(n.cfg.Node, 5) }

func (n *Network) ruleset() ruleset {
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.tableName()}
	set := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: key, KeyByteOrder: binaryutil.BigEndian}
	}
	r := ruleset{
		table:  t,
		ranges: set("ranges", nftables.TypeIPAddr),
		pods:   set("pods", nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)),
		peers:  set("peers", nftables.TypeIPAddr),
		ports:  set("hostports", nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)),
	}
	r.ranges.Interval = true
	r.ports.IsMap = true
	r.ports.DataType = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return r
}

// transact runs f on a fresh connection, with the rules locked, and applies
// what f asked for in one transaction.
func (n *Network) transact(f func(c *nftables.Conn, r ruleset) error) error {
	n.rulesMu.Lock()
	defer n.rulesMu.Unlock()
	c, err := nftables.New(nftables.WithNetNSFd(int(n.host)))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if err := f(c, n.ruleset()); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("change table %s: %w", n.tableName(), err)
	}
	return nil
}

// syncBaseRules makes the table, or brings an existing one to what this program
// wants, in one transaction that keeps the elements of running pods.
func (n *Network) syncBaseRules() error {
	return n.transact(func(c *nftables.Conn, r ruleset) error {
		c.AddTable(r.table)
		for _, s := range []*nftables.Set{r.ranges, r.pods, r.peers, r.ports} {
			if err := c.AddSet(s, nil); err != nil {
				return fmt.Errorf("add set %s: %w", s.Name, err)
			}
		}
		for _, ch := range n.chains(r) {
			c.AddChain(ch.chain)
			c.FlushChain(ch.chain)
			for _, exprs := range ch.rules {
				c.AddRule(&nftables.Rule{Table: r.table, Chain: ch.chain, Exprs: exprs})
			}
		}
		return n.setRanges(c, r)
	})
}

// warnOfForwardPolicy says when another table drops what it does not know: an
// accept of ours could not overrule that, and other tables are not ours to edit.
func (n *Network) warnOfForwardPolicy() {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.host)))
	if err != nil {
		return
	}
	chains, err := c.ListChains()
	if err != nil {
		return
	}
	for _, ch := range chains {
		forward := ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward
		if forward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			n.log.Warn("another firewall drops forwarded packets by default; pods may be unreachable until it accepts their range",
				"table", ch.Table.Name, "chain", ch.Name)
		}
	}
}

// syncRanges brings the set of ranges up to date.
func (n *Network) syncRanges() error { return n.transact(n.setRanges) }

func (n *Network) setRanges(c *nftables.Conn, r ruleset) error {
	n.mu.Lock()
	prefixes := append(slices.Clone(n.cfg.Unmasqueraded), n.peers...)
	if n.addrs.cidr.IsValid() {
		prefixes = append(prefixes, n.addrs.cidr)
	}
	n.mu.Unlock()
	var elements []nftables.SetElement
	for _, p := range disjoint(prefixes) {
		first := toUint(p.Addr())
		elements = append(elements, nftables.SetElement{Key: be32(first)})
		if end := uint64(first) + 1<<(32-p.Bits()); end <= 0xffffffff {
			elements = append(elements, nftables.SetElement{Key: be32(uint32(end)), IntervalEnd: true})
		}
	}
	c.FlushSet(r.ranges)
	if len(elements) == 0 {
		return nil
	}
	return c.SetAddElements(r.ranges, elements)
}

// disjoint sorts prefixes and drops those that lie within another.
func disjoint(in []netip.Prefix) []netip.Prefix {
	var sorted []netip.Prefix
	for _, p := range in {
		if p.IsValid() && p.Addr().Is4() {
			sorted = append(sorted, p.Masked())
		}
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// addPodRules notes the pod's address and its host ports, replacing what was
// there for this address.
func (n *Network) addPodRules(ip netip.Addr, ports []PortMapping) error {
	var elements []nftables.SetElement
	for _, p := range ports {
		key, err := hostPortKey(p)
		if err != nil {
			return err
		}
		elements = append(elements, nftables.SetElement{Key: key, Val: addrPort(ip, p.ContainerPort)})
	}
	return n.transact(func(c *nftables.Conn, r ruleset) error {
		if _, err := n.clearHostPorts(c, r, ip, elements); err != nil {
			return err
		}
		if len(elements) > 0 {
			if err := c.SetAddElements(r.ports, elements); err != nil {
				return fmt.Errorf("add host ports of %s: %w", ip, err)
			}
		}
		return c.SetAddElements(r.pods, []nftables.SetElement{{Key: podKey(ip)}})
	})
}

// clearHostPorts removes what leads to ip, and what the new elements replace:
// the port of a pod that is gone may still be there under an old address. It
// reports whether a UDP port was among them.
func (n *Network) clearHostPorts(c *nftables.Conn, r ruleset, ip netip.Addr, replaced []nftables.SetElement) (udp bool, err error) {
	have, err := c.GetSetElements(r.ports)
	if err != nil {
		return false, fmt.Errorf("read host ports: %w", err)
	}
	var stale []nftables.SetElement
	for _, e := range have {
		same := slices.ContainsFunc(replaced, func(r nftables.SetElement) bool { return string(r.Key) == string(e.Key) })
		if same || len(e.Val) >= 4 && string(e.Val[:4]) == string(ip.AsSlice()) {
			stale = append(stale, nftables.SetElement{Key: e.Key, Val: e.Val})
			udp = udp || e.Key[4] == unix.IPPROTO_UDP
		}
	}
	if len(stale) == 0 {
		return false, nil
	}
	return udp, c.SetDeleteElements(r.ports, stale)
}

// flowsTo matches the UDP flows that are sent on to a pod.
type flowsTo struct{ ip netip.Addr }

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsTo) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.Protocol == unix.IPPROTO_UDP &&
		addrOf(flow.Reverse.SrcIP) == f.ip && addrOf(flow.Forward.DstIP) != f.ip
}

// forgetFlows makes the kernel forget UDP flows through a host port of ip, or
// the next pod with that port or address would not get the packets it should.
func (n *Network) forgetFlows(ip netip.Addr) error {
	h, err := netlink.NewHandleAt(n.host, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open conntrack: %w", err)
	}
	defer h.Close()
	if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, flowsTo{ip}); err != nil {
		return fmt.Errorf("delete UDP flows to %s: %w", ip, err)
	}
	return nil
}

// removePodRules forgets the pod's address and host ports.
func (n *Network) removePodRules(ip netip.Addr) error {
	hadUDP := false
	err := n.transact(func(c *nftables.Conn, r ruleset) error {
		var err error
		if hadUDP, err = n.clearHostPorts(c, r, ip, nil); err != nil {
			return err
		}
		// Adding first makes the deletion succeed whether it was there or not.
		key := []nftables.SetElement{{Key: podKey(ip)}}
		if err := c.SetAddElements(r.pods, key); err != nil {
			return err
		}
		return c.SetDeleteElements(r.pods, key)
	})
	if errors.Is(err, unix.ENOENT) { // the table is gone
		return nil
	}
	if err == nil && hadUDP {
		err = n.forgetFlows(ip)
	}
	return err
}

// deleteRules removes the table, if there is one.
func (n *Network) deleteRules() error {
	return n.transact(func(c *nftables.Conn, r ruleset) error {
		c.AddTable(r.table)
		c.DelTable(r.table)
		return nil
	})
}

func hostPortKey(p PortMapping) ([]byte, error) {
	proto := byte(unix.IPPROTO_TCP)
	switch strings.ToUpper(p.Protocol) {
	case "", "TCP":
	case "UDP":
		proto = unix.IPPROTO_UDP
	default:
		return nil, fmt.Errorf("host port %d: protocol %q is neither TCP nor UDP", p.HostPort, p.Protocol)
	}
	key := make([]byte, 12)
	if p.HostIP.IsValid() {
		if !p.HostIP.Is4() {
			return nil, fmt.Errorf("host port %d: host IP %s is not IPv4", p.HostPort, p.HostIP)
		}
		copy(key, p.HostIP.AsSlice())
	}
	key[4] = proto
	binary.BigEndian.PutUint16(key[8:], p.HostPort)
	return key, nil
}

func podKey(ip netip.Addr) []byte { return append(ip.AsSlice(), ip.AsSlice()...) }

func addrPort(ip netip.Addr, port uint16) []byte {
	b := append(ip.AsSlice(), 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[4:], port)
	return b
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
