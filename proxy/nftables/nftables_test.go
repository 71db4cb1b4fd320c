package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/proxy"
	"github.com/evenkeel/evenkeel/proxy/proxytest"
)

func newBackend(t testing.TB) *Backend {
	b, err := New(Config{Node: "node-" + t.Name()})
	if err != nil {
		t.Errorf("New: %v", err)
		return nil
	}
	t.Cleanup(b.Close)
	return b
}

func TestSuite(t *testing.T) {
	proxytest.Suite(t, proxytest.Features{KeepsSource: true}, func(t *testing.T) proxy.Backend { return newBackend(t) })
}

// TestTakeover hands the rules from one process's backend to the next, again
// and again, while requests go through them; not one may fail.
func TestTakeover(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	rules := proxytest.Rules(0, proxytest.Pod1IP, proxytest.Pod2IP)
	h.Sync(rules)
	held, err := proxytest.Dial(h.Outside, "tcp4", proxytest.NodeIP+":30080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	asked := 0
	wg.Go(func() {
		for ; ctx.Err() == nil; asked++ {
			if _, _, err := proxytest.AskOnce(h.Pod1, "tcp4", "10.96.0.1:80"); err != nil {
				t.Errorf("request %d: %v", asked, err)
				return
			}
		}
	})
	for i := range 20 {
		proxytest.In(t, h.Node, func() error {
			b := newBackend(t)
			if b == nil {
				return fmt.Errorf("no backend")
			}
			return b.Sync(t.Context(), rules)
		})
		if _, _, err := proxytest.Ask(held); err != nil {
			t.Fatalf("held connection after takeover %d: %v", i, err)
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d requests during 20 takeovers", asked)
}

func TestCleanupLeavesNothing(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	h.Sync(proxytest.Rules(time.Minute, proxytest.Pod1IP, proxytest.Pod2IP))
	proxytest.In(t, h.Node, func() error {
		if b, _ := os.ReadFile(routeLocalnet); strings.TrimSpace(string(b)) != "1" {
			t.Errorf("route_localnet is %s while node ports are served", b)
		}
		if err := newBackend(t).Cleanup(t.Context()); err != nil {
			return err
		}
		if b, _ := os.ReadFile(routeLocalnet); strings.TrimSpace(string(b)) != "0" {
			t.Errorf("route_localnet is %s afterwards", b)
		}
		return newBackend(t).Cleanup(t.Context())
	})
	b := h.Backend.(*Backend)
	if tables, err := b.conn.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("%d tables left, %v", len(tables), err)
	}
}

// TestReplacesForeignShape meets a table of the same name with other sets.
func TestReplacesForeignShape(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	b := h.Backend.(*Backend)
	old := newSchema(b.table.t.Name)
	b.conn.AddTable(old.t)
	old.sets[services].KeyType = old.sets[addresses].KeyType
	if err := b.conn.AddSet(old.sets[services], nil); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	h.Sync(proxytest.Rules(0, proxytest.Pod1IP))
	if _, _, err := proxytest.AskOnce(h.Pod2, "tcp4", "10.96.0.1:80"); err != nil {
		t.Error(err)
	}
}

// TestListable wants the nft program to understand our table.
func TestListable(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("no nft program")
	}
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	for _, affinity := range []time.Duration{0, time.Minute} {
		h.Sync(proxytest.Rules(affinity, proxytest.Pod1IP, proxytest.Pod2IP))
		if _, _, err := proxytest.AskOnce(h.Outside, "tcp4", proxytest.NodeIP+":30080"); err != nil {
			t.Fatal(err)
		}
		proxytest.In(t, h.Node, func() error {
			out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			t.Logf("%s", out)
			return err
		})
	}
}

// drawRuleset makes a small ruleset whose members often recur in the next.
func drawRuleset(t *rapid.T, label string) proxy.Ruleset {
	ports := map[string]proxy.ServicePort{}
	for range rapid.IntRange(0, 6).Draw(t, label) {
		sp := proxy.ServicePort{
			Port:  uint16(rapid.IntRange(80, 82).Draw(t, "port")),
			Proto: rapid.SampledFrom([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}).Draw(t, "proto"),
		}
		if sp.NodePort = rapid.Bool().Draw(t, "nodePort"); !sp.NodePort {
			sp.Addr = netip.AddrFrom4([4]byte{10, 96, 0, byte(rapid.IntRange(1, 3).Draw(t, "addr"))})
		}
		sp.SessionAffinity = rapid.SampledFrom([]time.Duration{0, 0, time.Minute}).Draw(t, "affinity")
		for i := range rapid.IntRange(0, 4).Draw(t, "endpoints") {
			host := byte(rapid.IntRange(2, 5).Draw(t, "endpoint"))
			sp.Endpoints = append(sp.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), host}), 80))
		}
		ports[portKey(sp)] = sp
	}
	rules := proxy.Ruleset{Services: slices.Collect(maps.Values(ports))}
	slices.SortFunc(rules.Services, func(a, b proxy.ServicePort) int { return compareKeys(&a, &b) })
	for i := range byte(4) {
		if rapid.Bool().Draw(t, "local") {
			rules.Local = append(rules.Local, netip.AddrFrom4([4]byte{10, 9, i, 2}))
		}
	}
	return rules
}

// TestConverges goes through random rulesets, by difference and by takeover,
// and wants the kernel to hold exactly the last.
func TestConverges(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	b := h.Backend.(*Backend)
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 4).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "restart") {
				b.state = nil
			}
			rules := drawRuleset(rt, "services")
			if err := b.Sync(context.Background(), rules); err != nil {
				rt.Fatalf("Sync: %v", err)
			}
			b.mu.Lock()
			have, err := b.readLocked()
			b.mu.Unlock()
			if err != nil {
				rt.Fatal(err)
			}
			want := newState(rules)
			wantElements, wantChains := map[element]bool{}, map[string]bool{loopbackMark: true}
			for _, e := range want.elements() {
				wantElements[e] = true
			}
			for _, c := range b.table.baseChains() {
				wantChains[c.Name] = true
			}
			for _, sp := range want.services {
				if len(sp.Endpoints) > 0 {
					wantChains[chainName(sp)] = true
				}
			}
			if d := cmp.Diff(wantElements, have.read.elements, cmp.AllowUnexported(element{})); d != "" {
				rt.Fatalf("elements (-want +got):\n%s", d)
			}
			if d := cmp.Diff(wantChains, have.read.chains); d != "" {
				rt.Fatalf("chains (-want +got):\n%s", d)
			}
		}
	})
}

// manyServices are count services with two endpoints each.
func manyServices(count int) proxy.Ruleset {
	var rules proxy.Ruleset
	for i := range count {
		host := [2]byte{byte(i >> 8), byte(i)}
		rules.Services = append(rules.Services, proxy.ServicePort{
			Addr: netip.AddrFrom4([4]byte{10, 96, host[0], host[1]}), Port: 80, Proto: corev1.ProtocolTCP,
			Endpoints: []netip.AddrPort{
				netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, host[0], host[1]}), 80),
				netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 10, host[0], host[1]}), 80),
			},
		})
	}
	return rules
}

func TestManyServices(t *testing.T) {
	h := proxytest.NewHarness(t, proxytest.Features{}, func(t *testing.T) proxy.Backend { return newBackend(t) })
	rules := manyServices(10000)
	start := time.Now()
	h.Sync(rules)
	t.Logf("10,000 services programmed in %v", time.Since(start))

	var least time.Duration
	for i := range 20 {
		next := proxy.Ruleset{Services: slices.Clone(rules.Services)}
		ends := slices.Clone(next.Services[5000].Endpoints)
		ends[0] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 11, 0, byte(i)}), 80)
		next.Services[5000].Endpoints = ends
		start = time.Now()
		h.Sync(next)
		if took := time.Since(start); least == 0 || took < least {
			least = took
		}
		rules = next
	}
	t.Logf("one endpoint changed in %v", least)

	start = time.Now()
	h.Backend.(*Backend).state = nil
	h.Sync(rules)
	t.Logf("taken over in %v", time.Since(start))
}
