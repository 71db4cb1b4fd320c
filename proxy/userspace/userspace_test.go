package userspace

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"github.com/evenkeel/evenkeel/proxy"
	"github.com/evenkeel/evenkeel/proxy/proxytest"
)

func newBackend(t *testing.T) proxy.Backend {
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestSuite(t *testing.T) {
	proxytest.Suite(t, proxytest.Features{}, newBackend)
}

// TestLeavesNothing wants neither goroutines nor addresses left.
func TestLeavesNothing(t *testing.T) {
	w := proxytest.NewWorld(t)
	before := goleak.IgnoreCurrent()
	proxytest.In(t, w.Node, func() error {
		b, err := New(Config{})
		if err != nil {
			return err
		}
		defer b.Close()
		if err := b.Sync(context.Background(), proxytest.Rules(0, proxytest.Pod1IP)); err != nil {
			return err
		}
		for network, addr := range map[string]string{"tcp4": "10.96.0.1:80", "udp4": "10.96.0.1:53"} {
			if _, _, err := proxytest.AskOnce(w.Pod2, network, addr); err != nil {
				return err
			}
		}
		if err := b.Cleanup(context.Background()); err != nil {
			return err
		}
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		if slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Label == addressLabel }) {
			t.Errorf("addresses left: %v", addrs)
		}
		return err
	})
	goleak.VerifyNone(t, before)
}

// TestIdleFlowsEnd wants a UDP flow forgotten when it was quiet long enough.
func TestIdleFlowsEnd(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend {
		b, err := New(Config{UDPIdle: 500 * time.Millisecond}) // an answer takes less, also on a busy machine
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	})
	h.Sync(proxytest.Rules(0, proxytest.Pod1IP))
	if _, _, err := proxytest.AskOnce(h.Pod2, "udp4", "10.96.0.1:53"); err != nil {
		t.Fatal(err)
	}
	b := h.Backend.(*Backend)
	count := func() (k int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, l := range b.listeners {
			if u, ok := l.(*udpListener); ok {
				u.mu.Lock()
				k += len(u.sessions)
				u.mu.Unlock()
			}
		}
		return k
	}
	for deadline := time.Now().Add(time.Minute); count() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d flows remembered", count())
		}
		<-time.After(10 * time.Millisecond)
	}
}
