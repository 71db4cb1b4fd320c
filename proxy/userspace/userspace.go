// Package userspace serves services by listening on their addresses and
// copying, for machines whose kernel has no nftables.
//
// It is a proxy.Backend like the nftables one, and stands where that cannot:
// endpoints see the node's address instead of the client's, and services stop
// while the process is not running. Cluster IPs are added to lo.
package userspace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/proxy"
	"github.com/evenkeel/evenkeel/proxy/thread"
)

// Config has no required field.
type Config struct {
	// DialTimeout is how long an endpoint may take to accept before the next one
	// is tried. Default: 2 s.
	DialTimeout time.Duration
	// UDPIdle is how long a UDP flow without packets is remembered. Default: 60 s.
	UDPIdle time.Duration
	// Logger default: none.
	Logger *slog.Logger
}

// Backend is a proxy.Backend that copies. It acts in the network namespace New
// was called in. It is safe for concurrent use.
type Backend struct {
	cfg    Config
	log    *slog.Logger
	ns     netns.NsHandle
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	listeners map[listenKey]listener
}

var _ proxy.Backend = (*Backend)(nil)

type listenKey struct {
	addr  netip.Addr // unspecified for a node port
	port  uint16
	proto corev1.Protocol
}

func (k listenKey) String() string {
	return fmt.Sprintf("%s %s", k.proto, netip.AddrPortFrom(k.addr, k.port))
}

// listener serves one address and port until it is closed.
type listener interface {
	// update changes where new flows go, and ends UDP flows to endpoints gone.
	update(sp proxy.ServicePort)
	close()
}

// New changes nothing on the machine. Close must follow.
func New(cfg Config) (*Backend, error) {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 2 * time.Second
	}
	if cfg.UDPIdle <= 0 {
		cfg.UDPIdle = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	b := &Backend{cfg: cfg, log: cfg.Logger, ns: ns, listeners: map[listenKey]listener{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Close ends every connection and waits for all goroutines. Cluster IPs stay
// on lo, so that connections are refused rather than sent elsewhere.
func (b *Backend) Close() {
	b.cancel()
	b.mu.Lock()
	for key, l := range b.listeners {
		l.close()
		delete(b.listeners, key)
	}
	b.mu.Unlock()
	b.wg.Wait()
	_ = b.ns.Close()
}

// Sync implements proxy.Backend. One address that cannot be served, because
// another process listens there, does not keep the others from being served.
func (b *Backend) Sync(ctx context.Context, rules proxy.Ruleset) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(ctx.Err(), b.ctx.Err()); err != nil {
		return err
	}
	want, addrs := wanted(rules)
	for key, l := range b.listeners {
		if _, ok := want[key]; !ok {
			l.close()
			delete(b.listeners, key)
		}
	}
	errs := []error{b.in(func() error { return syncAddresses(addrs) })}
	for key, sp := range want {
		if l := b.listeners[key]; l != nil {
			l.update(sp)
			continue
		}
		l, err := b.listen(key, sp)
		if err != nil {
			errs = append(errs, fmt.Errorf("serve %s at %s: %w", sp.Name, key, err))
			continue
		}
		b.listeners[key] = l
	}
	return errors.Join(errs...)
}

// wanted lists the listeners and the addresses rules ask for. A service without
// endpoints has an address where nobody listens: the kernel refuses for us.
func wanted(rules proxy.Ruleset) (map[listenKey]proxy.ServicePort, []netip.Addr) {
	want := map[listenKey]proxy.ServicePort{}
	addrs := map[netip.Addr]bool{}
	for _, sp := range rules.Services {
		key := listenKey{sp.Addr, sp.Port, sp.Proto}
		switch {
		case sp.NodePort:
			key.addr = netip.IPv4Unspecified()
		case sp.Addr.Is4():
			addrs[sp.Addr] = true
		default: // pods have no IPv6
			continue
		}
		if len(sp.Endpoints) > 0 {
			want[key] = sp
		}
	}
	return want, slices.Collect(maps.Keys(addrs))
}

func (b *Backend) listen(key listenKey, sp proxy.ServicePort) (listener, error) {
	if key.proto == corev1.ProtocolUDP {
		return b.listenUDP(key, sp)
	}
	return b.listenTCP(key, sp)
}

// Cleanup implements proxy.Backend. It ends every connection.
func (b *Backend) Cleanup(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, l := range b.listeners {
		l.close()
		delete(b.listeners, key)
	}
	return b.in(func() error { return syncAddresses(nil) })
}

// in runs f in the Backend's network namespace.
func (b *Backend) in(f func() error) error { return thread.In(b.ns, f) }
