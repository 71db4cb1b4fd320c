package nodelife

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/evenkeel/evenkeel/schema"
)

// Every range that a node has is claimed by a key of its own, written with the
// node: two nodes can never have the same one.

// nodeBits is the length of a node's prefix: 256 addresses each.
const nodeBits = 24

// claimPath is the key of a claim; the slash of a prefix would make two parts.
func claimPath(cidr netip.Prefix) string {
	return fmt.Sprintf("%s%s_%d", schema.PodCIDRsPrefix, cidr.Addr(), cidr.Bits())
}

// claimedBy is the inverse of claimPath.
func claimedBy(path string) (netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(strings.Replace(strings.TrimPrefix(path, schema.PodCIDRsPrefix), "_", "/", 1))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("claim %s: %w", path, err)
	}
	return cidr, nil
}

// lowestFree returns the first range of the cluster's that overlaps none of
// those taken; false when there is none.
func lowestFree(cluster netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	cluster = cluster.Masked()
	first := cluster.Addr().As4()
	base := binary.BigEndian.Uint32(first[:])
	exact := map[netip.Prefix]bool{}
	var others []netip.Prefix
	for _, t := range taken {
		if exact[t] = t.Bits() == nodeBits; !exact[t] {
			others = append(others, t)
		}
	}
	count := uint64(1)
	if cluster.Bits() < nodeBits {
		count <<= nodeBits - cluster.Bits()
	}
	for i := range count {
		var at [4]byte
		binary.BigEndian.PutUint32(at[:], base+uint32(i)<<(32-nodeBits))
		candidate := netip.PrefixFrom(netip.AddrFrom4(at), max(nodeBits, cluster.Bits()))
		if !exact[candidate] && !overlapsAny(candidate, others) {
			return candidate, true
		}
	}
	return netip.Prefix{}, false
}

func overlapsAny(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return true
		}
	}
	return false
}
