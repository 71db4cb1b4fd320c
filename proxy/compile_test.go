package proxy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func ptr[T any](v T) *T { return &v }

func service(name, ip string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{
			{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80},
		}},
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func nodePort(port int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = port }
}

func slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(8080))}},
		Endpoints:   endpoints,
	}
}

func endpoint(ip, node string, ready, serving, terminating bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{ip}, NodeName: ptr(node),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
	}
}

func ready(ip, node string) discoveryv1.Endpoint { return endpoint(ip, node, true, true, false) }

func TestCompile(t *testing.T) {
	at := func(addrs ...string) []netip.AddrPort {
		var out []netip.AddrPort
		for _, a := range addrs {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	cluster := func(name, ip string, endpoints ...string) ServicePort {
		return ServicePort{Addr: netip.MustParseAddr(ip), Port: 80, Proto: "TCP", Name: "default/" + name + ":http", Endpoints: at(endpoints...)}
	}
	node := func(name string, port uint16, endpoints ...string) ServicePort {
		return ServicePort{Port: port, Proto: "TCP", NodePort: true, Name: "default/" + name + ":http", Endpoints: at(endpoints...)}
	}
	localAddrs := func(addrs ...string) []netip.Addr {
		var out []netip.Addr
		for _, a := range addrs {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	cases := []struct {
		name     string
		services []*corev1.Service
		slices   []*discoveryv1.EndpointSlice
		want     Ruleset
	}{
		{"nothing", nil, nil, Ruleset{}},
		{
			"endpoints on both nodes, sorted",
			[]*corev1.Service{service("web", "10.96.0.1")},
			[]*discoveryv1.EndpointSlice{slice("web", ready("10.1.0.9", "b"), ready("10.1.0.2", "a"))},
			Ruleset{[]ServicePort{cluster("web", "10.96.0.1", "10.1.0.2:8080", "10.1.0.9:8080")}, localAddrs("10.1.0.2")},
		},
		{
			"no slice: a service to refuse",
			[]*corev1.Service{service("web", "10.96.0.1", nodePort(30080))},
			nil,
			Ruleset{Services: []ServicePort{cluster("web", "10.96.0.1"), node("web", 30080)}},
		},
		{
			"not ready is left out, terminating serves only when nothing else does",
			[]*corev1.Service{service("a", "10.96.0.1"), service("b", "10.96.0.2")},
			[]*discoveryv1.EndpointSlice{
				slice("a", ready("10.1.0.1", "x"), endpoint("10.1.0.2", "x", false, true, true), endpoint("10.1.0.3", "x", false, false, false)),
				slice("b", endpoint("10.1.0.4", "x", false, true, true), endpoint("10.1.0.5", "x", false, false, true)),
			},
			Ruleset{Services: []ServicePort{cluster("a", "10.96.0.1", "10.1.0.1:8080"), cluster("b", "10.96.0.2", "10.1.0.4:8080")}},
		},
		{
			"conditions unknown mean ready",
			[]*corev1.Service{service("a", "10.96.0.1")},
			[]*discoveryv1.EndpointSlice{slice("a", discoveryv1.Endpoint{Addresses: []string{"10.1.0.1"}})},
			Ruleset{Services: []ServicePort{cluster("a", "10.96.0.1", "10.1.0.1:8080")}},
		},
		{
			"traffic policies",
			[]*corev1.Service{service("a", "10.96.0.1", nodePort(30080), func(s *corev1.Service) {
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}), service("b", "10.96.0.2", func(s *corev1.Service) {
				s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal)
			})},
			[]*discoveryv1.EndpointSlice{
				slice("a", ready("10.1.0.1", "a"), ready("10.1.1.1", "b")),
				slice("b", ready("10.1.1.2", "b")),
			},
			Ruleset{[]ServicePort{
				cluster("a", "10.96.0.1", "10.1.0.1:8080", "10.1.1.1:8080"), cluster("b", "10.96.0.2"), node("a", 30080, "10.1.0.1:8080"),
			}, localAddrs("10.1.0.1")},
		},
		{
			"headless, external and foreign services are left out",
			[]*corev1.Service{
				service("h", corev1.ClusterIPNone), service("unassigned", ""),
				service("e", "", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }),
				service("f", "10.96.0.9", func(s *corev1.Service) { s.Labels = map[string]string{proxyNameLabel: "other"} }),
			},
			nil,
			Ruleset{},
		},
		{
			"the older of two claims wins",
			[]*corev1.Service{
				service("new", "10.96.0.1", func(s *corev1.Service) { s.CreationTimestamp = metav1.Unix(20, 0) }),
				service("old", "10.96.0.1", func(s *corev1.Service) { s.CreationTimestamp = metav1.Unix(10, 0) }),
			},
			nil,
			Ruleset{Services: []ServicePort{cluster("old", "10.96.0.1")}},
		},
		{
			"the default affinity is three hours",
			[]*corev1.Service{service("a", "10.96.0.1", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })},
			nil,
			Ruleset{Services: []ServicePort{{
				Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Proto: "TCP", Name: "default/a:http", SessionAffinity: 3 * time.Hour,
			}}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Compile(c.services, c.slices, Options{NodeName: "a", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}})
			if d := cmp.Diff(c.want, got, compareAddrs, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestCompileIgnoresOrder shuffles services, slices and endpoints.
func TestCompileIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var services []*corev1.Service
		var all []*discoveryv1.EndpointSlice
		for i, name := range []string{"a", "b", "c", "d"} {
			ip := rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2"}).Draw(t, "ip")
			services = append(services, service(name, ip, nodePort(int32(30000+i/2))))
			var ends []discoveryv1.Endpoint
			for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
				ends = append(ends, endpoint(
					rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2", "10.1.0.3"}).Draw(t, "addr"), "x",
					rapid.Bool().Draw(t, "ready"), true, rapid.Bool().Draw(t, "terminating")))
			}
			all = append(all, slice(name, ends...))
		}
		opts := Options{NodeName: "x"}
		want := Compile(services, all, opts)
		services = rapid.Permutation(services).Draw(t, "services")
		all = rapid.Permutation(all).Draw(t, "slices")
		for _, s := range all {
			if len(s.Endpoints) > 0 {
				s.Endpoints = rapid.Permutation(s.Endpoints).Draw(t, "shuffled")
			}
		}
		if d := cmp.Diff(want, Compile(services, all, opts), compareAddrs); d != "" {
			t.Fatalf("order matters (-first +second):\n%s", d)
		}
		if !slices.IsSortedFunc(want.Services, compareServicePorts) {
			t.Fatal("not sorted")
		}
	})
}

func BenchmarkCompile10000(b *testing.B) {
	var services []*corev1.Service
	var all []*discoveryv1.EndpointSlice
	for i := range 10000 {
		name := string(rune('a'+i%26)) + time.Duration(i).String()
		services = append(services, service(name, netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String()))
		all = append(all, slice(name, ready("10.1.0.1", "x"), ready("10.1.0.2", "x")))
	}
	for b.Loop() {
		Compile(services, all, Options{NodeName: "x"})
	}
}
