package userspace

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/proxy"
)

// balancer chooses endpoints in turn, or the client's last one where the
// service keeps clients.
type balancer struct {
	mu       sync.Mutex
	sp       proxy.ServicePort
	next     int
	affinity map[netip.Addr]held
}

type held struct {
	endpoint netip.AddrPort
	used     time.Time
}

// sweepAbove is how many clients are remembered before old ones are swept.
const sweepAbove = 4096

func newBalancer(sp proxy.ServicePort) *balancer {
	return &balancer{sp: sp, affinity: map[netip.Addr]held{}}
}

func (b *balancer) set(sp proxy.ServicePort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sp = sp
}

func (b *balancer) has(endpoint netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.sp.Endpoints, endpoint)
}

// candidates returns every endpoint, in the order to be tried for this client.
func (b *balancer) candidates(client netip.Addr) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := len(b.sp.Endpoints)
	if count == 0 {
		return nil
	}
	start := b.next % count
	b.next++
	if h, ok := b.affinity[client]; ok && b.sp.SessionAffinity > 0 && time.Since(h.used) < b.sp.SessionAffinity {
		if i := slices.Index(b.sp.Endpoints, h.endpoint); i >= 0 {
			start = i
		}
	}
	return append(slices.Clone(b.sp.Endpoints[start:]), b.sp.Endpoints[:start]...)
}

// chosen notes which endpoint serves the client.
func (b *balancer) chosen(client netip.Addr, endpoint netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sp.SessionAffinity <= 0 {
		clear(b.affinity)
		return
	}
	if len(b.affinity) > sweepAbove {
		for c, h := range b.affinity {
			if time.Since(h.used) > b.sp.SessionAffinity {
				delete(b.affinity, c)
			}
		}
	}
	b.affinity[client] = held{endpoint, time.Now()}
}
