package proxytest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/proxy"
)

// Features says what a backend can beyond forwarding.
type Features struct {
	// KeepsSource: endpoints on the node see the client's own address.
	KeepsSource bool
}

const clusterIP = "10.96.0.1"

// Suite runs every test of the suite. make is called in the network namespace
// of a fresh node; what it returns is cleaned up by the suite.
func Suite(t *testing.T, f Features, newBackend func(t *testing.T) proxy.Backend) {
	tests := map[string]func(t *testing.T, h *Harness){
		"ClusterIP":      testClusterIP,
		"NodePort":       testNodePort,
		"Hairpin":        testHairpin,
		"Refuse":         testRefuse,
		"EndpointGoes":   testEndpointGoes,
		"ServiceGoes":    testServiceGoes,
		"Affinity":       testAffinity,
		"RemoteEndpoint": testRemoteEndpoint,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, NewHarness(t, f, newBackend)) })
	}
}

// Harness is a world with a backend at work on its node.
type Harness struct {
	World
	Backend  proxy.Backend
	features Features
	t        *testing.T
}

// NewHarness makes a world and a backend in it.
func NewHarness(t *testing.T, f Features, newBackend func(t *testing.T) proxy.Backend) *Harness {
	t.Helper()
	h := &Harness{World: NewWorld(t), features: f, t: t}
	In(t, h.Node, func() error { h.Backend = newBackend(t); return nil })
	t.Cleanup(func() {
		if err := h.Backend.Cleanup(context.Background()); err != nil {
			t.Errorf("Cleanup: %v", err)
		}
	})
	return h
}

// Rules is a service on TCP 80 and UDP 53, as cluster IP and as node ports
// 30080 and 30053, with these endpoints.
func Rules(affinity time.Duration, hosts ...string) proxy.Ruleset {
	at := func(port uint16) []netip.AddrPort {
		var out []netip.AddrPort
		for _, h := range hosts {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(h), port))
		}
		return out
	}
	ip := netip.MustParseAddr(clusterIP)
	sp := func(addr netip.Addr, proto corev1.Protocol, port, target uint16) proxy.ServicePort {
		return proxy.ServicePort{
			Addr: addr, Port: port, Proto: proto, NodePort: !addr.IsValid(), Name: "default/web",
			Endpoints: at(target), SessionAffinity: affinity,
		}
	}
	return proxy.Ruleset{
		Services: []proxy.ServicePort{
			sp(ip, corev1.ProtocolUDP, 53, 53), sp(ip, corev1.ProtocolTCP, 80, 80),
			sp(netip.Addr{}, corev1.ProtocolUDP, 30053, 53), sp(netip.Addr{}, corev1.ProtocolTCP, 30080, 80),
		},
		Local: []netip.Addr{netip.MustParseAddr(Pod1IP), netip.MustParseAddr(Pod2IP)},
	}
}

// Sync hands rules to the backend.
func (h *Harness) Sync(rules proxy.Ruleset) {
	h.t.Helper()
	if err := h.Backend.Sync(h.t.Context(), rules); err != nil {
		h.t.Fatalf("Sync: %v", err)
	}
}

// servers asks often enough to meet every endpoint, and returns who answered.
func (h *Harness) servers(from netns.NsHandle, network, addr string) map[string]bool {
	h.t.Helper()
	out := map[string]bool{}
	for range 30 {
		server, _, err := AskOnce(from, network, addr)
		if err != nil {
			h.t.Fatalf("%s %s: %v", network, addr, err)
		}
		out[server] = true
	}
	return out
}

func (h *Harness) wantBoth(from netns.NsHandle, network, addr string) {
	h.t.Helper()
	if got := h.servers(from, network, addr); len(got) != 2 {
		h.t.Errorf("%s %s: only %v answer", network, addr, got)
	}
}

func (h *Harness) wantSource(from netns.NsHandle, network, addr, want string) {
	h.t.Helper()
	_, client, err := AskOnce(from, network, addr)
	if err != nil || h.features.KeepsSource && client != want {
		h.t.Errorf("%s %s: client seen as %q, err %v; want %q", network, addr, client, err, want)
	}
}

func testClusterIP(t *testing.T, h *Harness) {
	h.Sync(Rules(0, Pod1IP, Pod2IP))
	h.wantBoth(h.Pod1, "tcp4", clusterIP+":80")
	h.wantBoth(h.Pod1, "udp4", clusterIP+":53")
	h.wantBoth(h.Node, "tcp4", clusterIP+":80")
	h.wantBoth(h.Node, "udp4", clusterIP+":53")
	h.Sync(Rules(0, Pod2IP))
	h.wantSource(h.Pod1, "tcp4", clusterIP+":80", Pod1IP)
}

func testNodePort(t *testing.T, h *Harness) {
	h.Sync(Rules(0, Pod1IP, Pod2IP))
	for _, network := range []string{"tcp4", "udp4"} {
		port := map[string]string{"tcp4": ":30080", "udp4": ":30053"}[network]
		h.wantBoth(h.Outside, network, NodeIP+port)
		h.wantBoth(h.Node, network, NodeIP+port)
		h.wantBoth(h.Node, network, "127.0.0.1"+port)
		h.wantBoth(h.Pod1, network, NodeIP+port)
		h.wantSource(h.Outside, network, NodeIP+port, OutsideIP)
	}
}

func testHairpin(t *testing.T, h *Harness) {
	h.Sync(Rules(0, Pod1IP))
	for network, addr := range map[string]string{"tcp4": clusterIP + ":80", "udp4": clusterIP + ":53"} {
		server, _, err := AskOnce(h.Pod1, network, addr)
		if err != nil || server != "pod1" {
			t.Errorf("%s: %q answers, %v", network, server, err)
		}
	}
	if server, _, err := AskOnce(h.Pod1, "tcp4", NodeIP+":30080"); err != nil || server != "pod1" {
		t.Errorf("by node port: %q answers, %v", server, err)
	}
}

// testRemoteEndpoint wants answers from an endpoint that only knows its link.
func testRemoteEndpoint(t *testing.T, h *Harness) {
	h.Sync(Rules(0, RemoteIP))
	for _, addr := range []string{NodeIP + ":30080", "127.0.0.1:30080"} {
		from := h.Outside
		if addr == "127.0.0.1:30080" {
			from = h.Node
		}
		if server, client, err := AskOnce(from, "tcp4", addr); err != nil || server != "remote" || client != "198.51.100.1" {
			t.Errorf("%s: %q answers to %q, %v", addr, server, client, err)
		}
	}
}

func testRefuse(t *testing.T, h *Harness) {
	h.Sync(Rules(0))
	for _, c := range []struct {
		from          netns.NsHandle
		network, addr string
	}{
		{h.Pod1, "tcp4", clusterIP + ":80"},
		{h.Node, "tcp4", clusterIP + ":80"},
		{h.Pod1, "udp4", clusterIP + ":53"},
		{h.Pod1, "tcp4", clusterIP + ":81"},
		{h.Outside, "tcp4", NodeIP + ":30080"},
		{h.Node, "tcp4", NodeIP + ":30080"},
		{h.Outside, "udp4", NodeIP + ":30053"},
	} {
		start := time.Now()
		_, _, err := AskOnce(c.from, c.network, c.addr)
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) > time.Second {
			t.Errorf("%s %s: %v after %v, want refused at once", c.network, c.addr, err, time.Since(start))
		}
	}
}

func testEndpointGoes(t *testing.T, h *Harness) {
	h.Sync(Rules(0, Pod1IP, Pod2IP))
	tcp := h.held("tcp4", clusterIP+":80", "pod2")
	udp := h.held("udp4", clusterIP+":53", "pod1")
	nodeUDP := h.held("udp4", NodeIP+":30053", "pod1")
	h.Sync(Rules(0, Pod2IP))
	if server, _, err := Ask(tcp); err != nil || server != "pod2" {
		t.Errorf("connection to the endpoint that stayed: %q answers, %v", server, err)
	}
	for name, c := range map[string]net.Conn{"cluster IP": udp, "node port": nodeUDP} {
		if server, _, err := Ask(c); err != nil || server != "pod2" {
			t.Errorf("UDP flow by %s to an endpoint that is gone: %q answers, %v", name, server, err)
		}
	}
	if got := h.servers(h.Pod1, "tcp4", clusterIP+":80"); got["pod1"] {
		t.Error("endpoint that is gone still answers")
	}
}

// held is a connection from outside the pods that this server answers.
func (h *Harness) held(network, addr, server string) net.Conn {
	h.t.Helper()
	from := h.Node
	if network == "udp4" && addr[:3] == NodeIP[:3] {
		from = h.Outside
	}
	for range 50 {
		c, err := Dial(from, network, addr)
		if err != nil {
			h.t.Fatalf("dial %s: %v", addr, err)
		}
		h.t.Cleanup(func() { _ = c.Close() })
		if got, _, err := Ask(c); err == nil && got == server {
			return c
		}
	}
	h.t.Fatalf("%s %s: %s never answers", network, addr, server)
	return nil
}

func testServiceGoes(t *testing.T, h *Harness) {
	h.Sync(Rules(0, Pod1IP, Pod2IP))
	h.wantBoth(h.Pod1, "tcp4", clusterIP+":80")
	h.Sync(proxy.Ruleset{})
	if server, _, err := AskOnce(h.Outside, "tcp4", NodeIP+":30080"); err == nil {
		t.Errorf("%s answers for a service that is gone", server)
	}
	h.Sync(Rules(0, Pod1IP, Pod2IP))
	h.wantBoth(h.Pod1, "tcp4", clusterIP+":80")
}

func testAffinity(t *testing.T, h *Harness) {
	h.Sync(Rules(time.Minute, Pod1IP, Pod2IP))
	for network, addr := range map[string]string{"tcp4": clusterIP + ":80", "udp4": clusterIP + ":53"} {
		got := h.servers(h.Pod1, network, addr)
		if len(got) != 1 {
			t.Fatalf("%s: one client was answered by %v", network, got)
		}
	}
	before := h.servers(h.Outside, "tcp4", NodeIP+":30080")
	if len(before) != 1 {
		t.Fatalf("node port: one client was answered by %v", before)
	}
	left, name := Pod1IP, "pod1"
	if before["pod1"] {
		left, name = Pod2IP, "pod2"
	}
	h.Sync(Rules(time.Minute, left))
	h.Sync(Rules(time.Minute, left, RemoteIP))
	h.Sync(Rules(time.Minute, left))
	if got := h.servers(h.Outside, "tcp4", NodeIP+":30080"); len(got) != 1 || !got[name] {
		t.Errorf("after its endpoint went, the client was answered by %v", got)
	}
}
