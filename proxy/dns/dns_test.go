package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/proxy/proxytest"
)

type fakeSource struct {
	mu       sync.Mutex
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	ready    bool
	changed  chan struct{}
}

func (f *fakeSource) Snapshot() ([]*corev1.Service, []*discoveryv1.EndpointSlice, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services, f.slices, f.ready
}

func (f *fakeSource) Changed() <-chan struct{} { return f.changed }

func ptr[T any](v T) *T { return &v }

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}
}

// cluster has one service of each kind.
func cluster() *fakeSource {
	web := &corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.7",
		Ports:     []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}},
	}}
	db := &corev1.Service{ObjectMeta: meta("db"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}
	all := &corev1.Service{ObjectMeta: meta("all"), Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true}}
	ext := &corev1.Service{ObjectMeta: meta("ext"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "www.example.com"}}
	in := &corev1.Service{ObjectMeta: meta("in"), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.shop.svc.cluster.local"}}
	notReady := discoveryv1.EndpointConditions{Ready: ptr(false)}
	hosts := func(name string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: meta(name), AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: ptr("sql"), Port: ptr(int32(5432))}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.1.0.4"}, Hostname: ptr("db-0")},
				{Addresses: []string{"10.1.0.5"}},
				{Addresses: []string{"10.1.0.6"}, Conditions: notReady},
			},
		}
	}
	return &fakeSource{
		services: []*corev1.Service{web, db, all, ext, in}, slices: []*discoveryv1.EndpointSlice{hosts("db"), hosts("all")},
		ready: true, changed: make(chan struct{}, 1),
	}
}

// texts are the records' values, sorted, each with its type.
func texts(rrs []mdns.RR) []string {
	var out []string
	for _, rr := range rrs {
		switch r := rr.(type) {
		case *mdns.A:
			out = append(out, "A "+r.A.String())
		case *mdns.CNAME:
			out = append(out, "CNAME "+r.Target)
		case *mdns.PTR:
			out = append(out, "PTR "+r.Ptr)
		case *mdns.SRV:
			out = append(out, fmt.Sprintf("SRV %d %s", r.Port, r.Target))
		case *mdns.TXT:
			out = append(out, "TXT "+r.Txt[0])
		default:
			out = append(out, mdns.TypeToString[rr.Header().Rrtype])
		}
	}
	slices.Sort(out)
	return out
}

func TestAnswers(t *testing.T) {
	const domain = ".svc.cluster.local."
	cases := []struct {
		name  string
		kind  uint16
		rcode int
		want  []string
	}{
		{"web.shop" + domain, mdns.TypeA, 0, []string{"A 10.96.0.7"}},
		{"WEB.Shop.SVC.Cluster.Local.", mdns.TypeA, 0, []string{"A 10.96.0.7"}},
		{"web.shop" + domain, mdns.TypeAAAA, 0, nil},
		{"web.shop" + domain, mdns.TypeMX, 0, nil},
		{"db.shop" + domain, mdns.TypeA, 0, []string{"A 10.1.0.4", "A 10.1.0.5"}},
		{"all.shop" + domain, mdns.TypeA, 0, []string{"A 10.1.0.4", "A 10.1.0.5", "A 10.1.0.6"}},
		{"db-0.db.shop" + domain, mdns.TypeA, 0, []string{"A 10.1.0.4"}},
		{"10-1-0-5.db.shop" + domain, mdns.TypeA, 0, []string{"A 10.1.0.5"}},
		{"_http._tcp.web.shop" + domain, mdns.TypeSRV, 0, []string{"SRV 80 web.shop" + domain}},
		{"_dns._udp.web.shop" + domain, mdns.TypeSRV, 0, []string{"SRV 53 web.shop" + domain}},
		{"_sql._tcp.db.shop" + domain, mdns.TypeSRV, 0, []string{"SRV 5432 10-1-0-5.db.shop" + domain, "SRV 5432 db-0.db.shop" + domain}},
		{"_http._tcp.web.shop" + domain, mdns.TypeA, 0, nil},
		{"_tcp.web.shop" + domain, mdns.TypeA, 0, nil},
		{"_dns._tcp.web.shop" + domain, mdns.TypeSRV, mdns.RcodeNameError, nil},
		{"7.0.96.10.in-addr.arpa.", mdns.TypePTR, 0, []string{"PTR web.shop" + domain}},
		{"4.0.1.10.in-addr.arpa.", mdns.TypePTR, 0, []string{"PTR db-0.all.shop" + domain}},
		{"ext.shop" + domain, mdns.TypeA, 0, []string{"CNAME www.example.com."}},
		{"dns-version.cluster.local.", mdns.TypeTXT, 0, []string{"TXT 1.1.0"}},
		{"cluster.local.", mdns.TypeSOA, 0, []string{"SOA"}},
		{"svc.cluster.local.", mdns.TypeA, 0, nil},
		{"shop" + domain, mdns.TypeA, 0, nil},
		{"nobody.shop" + domain, mdns.TypeA, mdns.RcodeNameError, nil},
		{"web.nowhere" + domain, mdns.TypeA, mdns.RcodeNameError, nil},
		{"web.shop.cluster.local.", mdns.TypeA, mdns.RcodeNameError, nil},
		{"x.y.z.web.shop" + domain, mdns.TypeA, mdns.RcodeNameError, nil},
	}
	src := cluster()
	z := newZone("cluster.local", src.services, src.slices, true)
	for _, c := range cases {
		t.Run(c.name+" "+mdns.TypeToString[c.kind], func(t *testing.T) {
			if !z.owns(c.name) {
				t.Fatal("not owned")
			}
			m := z.answer(mdns.Question{Name: c.name, Qtype: c.kind, Qclass: mdns.ClassINET})
			if m.Rcode != c.rcode {
				t.Errorf("rcode %s, want %s", mdns.RcodeToString[m.Rcode], mdns.RcodeToString[c.rcode])
			}
			if d := cmp.Diff(c.want, texts(m.Answer)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if hasSOA := len(m.Ns) == 1; hasSOA != (len(c.want) == 0) {
				t.Errorf("authority %v with answer %v", m.Ns, m.Answer)
			}
		})
	}
	for _, name := range []string{"example.com.", "notcluster.local.", "1.0.0.127.in-addr.arpa."} {
		if z.owns(name) {
			t.Errorf("owns %s", name)
		}
	}
}

// start runs a server and returns its address.
func start(t *testing.T, cfg Config) string {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	s, err := New(cfg)
	for tries := 0; tries < 10 && errors.Is(err, syscall.EADDRINUSE); tries++ { // a port free for UDP need not be for TCP
		s, err = New(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s.Addrs()[0]
}

func query(t *testing.T, network, addr, name string, kind uint16, edns bool) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg).SetQuestion(name, kind)
	if edns {
		m.SetEdns0(4096, false)
	}
	c := mdns.Client{Net: network, Timeout: 30 * time.Second, UDPSize: 4096}
	resp, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return resp
}

func TestServer(t *testing.T) {
	goleak.VerifyNone(t, goleak.IgnoreCurrent())
	upstream := start(t, Config{Source: outsideWorld(), ClusterDomain: "example.com", Upstreams: []string{"127.0.0.1:1"}})
	src := cluster()
	src.ready = false
	addr := start(t, Config{Source: src, Upstreams: []string{upstream}})

	if r := query(t, "udp", addr, "web.shop.svc.cluster.local.", mdns.TypeA, false); r.Rcode != mdns.RcodeServerFailure {
		t.Errorf("before the source is ready: %s", mdns.RcodeToString[r.Rcode])
	}
	src.mu.Lock()
	src.ready = true
	src.mu.Unlock()
	src.changed <- struct{}{}
	deadline := time.Now().Add(time.Minute)
	for query(t, "udp", addr, "web.shop.svc.cluster.local.", mdns.TypeA, false).Rcode != 0 {
		if time.Now().After(deadline) {
			t.Fatal("a change of the source is not served")
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := texts(query(t, network, addr, "web.shop.svc.cluster.local.", mdns.TypeA, true).Answer); !slices.Equal(got, []string{"A 10.96.0.7"}) {
			t.Errorf("%s: %v", network, got)
		}
		want := []string{"A 203.0.113.9"}
		if got := texts(query(t, network, addr, "www.web.svc.example.com.", mdns.TypeA, false).Answer); !slices.Equal(got, want) {
			t.Errorf("%s forwarded: %v, want %v", network, got, want)
		}
	}
	want := []string{"A 10.96.0.7", "CNAME web.shop.svc.cluster.local."}
	if got := texts(query(t, "udp", addr, "in.shop.svc.cluster.local.", mdns.TypeA, false).Answer); !slices.Equal(got, want) {
		t.Errorf("alias: %v, want %v", got, want)
	}
}

// outsideWorld makes a server under example.com that knows www.web.svc.
func outsideWorld() *fakeSource {
	return &fakeSource{ready: true, changed: make(chan struct{}), services: []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "www"}, Spec: corev1.ServiceSpec{ClusterIP: "203.0.113.9"},
	}}}
}

func TestTruncates(t *testing.T) {
	src := cluster()
	for i := range 100 {
		src.slices[0].Endpoints = append(src.slices[0].Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.2.0.%d", i)}})
	}
	addr := start(t, Config{Source: src})
	const name = "db.shop.svc.cluster.local."
	if r := query(t, "udp", addr, name, mdns.TypeA, false); !r.Truncated || packed(t, r) > 512 {
		t.Errorf("512 bytes: truncated %v, %d bytes", r.Truncated, packed(t, r))
	}
	if r := query(t, "udp", addr, name, mdns.TypeA, true); r.Truncated || len(r.Answer) != 102 || r.IsEdns0() == nil {
		t.Errorf("with EDNS: truncated %v, %d answers", r.Truncated, len(r.Answer))
	}
	if r := query(t, "tcp", addr, name, mdns.TypeA, false); r.Truncated || len(r.Answer) != 102 {
		t.Errorf("TCP: truncated %v, %d answers", r.Truncated, len(r.Answer))
	}
}

func TestNeverForwardsToItself(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 169.254.20.10\nnameserver 192.0.2.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := newForwarder(Config{ResolvConf: conf}, []string{"169.254.20.10:53"})
	f.log = slog.New(slog.DiscardHandler)
	if d := cmp.Diff([]string{"192.0.2.53:53"}, f.upstreams()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	f = newForwarder(Config{Upstreams: []string{"127.0.0.1:53", "192.0.2.53:53"}}, []string{"[::]:53"})
	f.log = slog.New(slog.DiscardHandler)
	if d := cmp.Diff([]string{"192.0.2.53:53"}, f.upstreams()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestServesInNamespace serves on a link-local address of a node's namespace,
// and is asked from a pod's.
func TestServesInNamespace(t *testing.T) {
	w := proxytest.NewWorld(t)
	ip := netip.MustParseAddr("169.254.20.10")
	var addr string
	proxytest.In(t, w.Node, func() error {
		if err := AddAddress(ip); err != nil {
			return err
		}
		if err := AddAddress(ip); err != nil {
			return fmt.Errorf("again: %w", err)
		}
		addr = start(t, Config{Source: cluster(), Listen: []string{"169.254.20.10:53"}})
		return nil
	})
	for _, network := range []string{"udp", "tcp"} {
		proxytest.In(t, w.Pod1, func() error {
			if got := texts(query(t, network, addr, "web.shop.svc.cluster.local.", mdns.TypeA, false).Answer); !slices.Equal(got, []string{"A 10.96.0.7"}) {
				t.Errorf("%s: %v", network, got)
			}
			return nil
		})
	}
	proxytest.In(t, w.Node, func() error {
		if err := RemoveAddresses(); err != nil {
			return err
		}
		return RemoveAddresses()
	})
}

// packed is the size of a message on the wire.
func packed(t *testing.T, m *mdns.Msg) int {
	t.Helper()
	m.Compress = true
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}
