package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Ruleset is what a backend must hold, in a fixed order: the same services and
// slices give the same Ruleset however they were ordered.
type Ruleset struct {
	// Services is sorted by NodePort, Addr, Port and Proto, which together are
	// unique.
	Services []ServicePort
	// Local lists the addresses of endpoints on this node, sorted.
	Local []netip.Addr
}

// ServicePort is one address and port that traffic is spread from.
type ServicePort struct {
	// Addr is the cluster IP. It is invalid for a node port, which listens on
	// every address of the node.
	Addr     netip.Addr
	Port     uint16
	Proto    corev1.Protocol // TCP or UDP
	NodePort bool
	// Name is "namespace/name:port", for people.
	Name string
	// Endpoints is sorted. When it is empty, connections are to be refused.
	Endpoints []netip.AddrPort
	// SessionAffinity, when not zero, keeps a client with its endpoint until it
	// was quiet that long.
	SessionAffinity time.Duration
}

// Options is what Compile must know of the node.
type Options struct {
	NodeName string
	NodeIPs  []netip.Addr
}

// proxyNameLabel hands a service to another proxy.
const proxyNameLabel = "service.kubernetes.io/service-proxy-name"

// Compile turns services and their endpoint slices into a ruleset. Headless
// services, those of type ExternalName and those labelled for another proxy
// are left out. Of two services that claim one address and port the older
// gets it. Endpoints that are ready serve; when none is, those that terminate
// but still serve do.
func Compile(services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, opts Options) Ruleset {
	c := compiler{opts: opts, taken: map[portKey]bool{}, local: map[netip.Addr]bool{}, slices: byService(endpointSlices)}
	for _, s := range byAge(services) {
		if proxied(s) {
			c.addService(s)
		}
	}
	slices.SortFunc(c.out, compareServicePorts)
	rules := Ruleset{Services: c.out}
	for a := range c.local {
		rules.Local = append(rules.Local, a)
	}
	slices.SortFunc(rules.Local, netip.Addr.Compare)
	return rules
}

type serviceKey struct{ namespace, name string }

type portKey struct {
	addr  netip.Addr
	port  uint16
	proto corev1.Protocol
}

type compiler struct {
	opts   Options
	slices map[serviceKey][]*discoveryv1.EndpointSlice
	taken  map[portKey]bool
	local  map[netip.Addr]bool
	out    []ServicePort
}

func byService(in []*discoveryv1.EndpointSlice) map[serviceKey][]*discoveryv1.EndpointSlice {
	out := map[serviceKey][]*discoveryv1.EndpointSlice{}
	for _, s := range in {
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			k := serviceKey{s.Namespace, name}
			out[k] = append(out[k], s)
		}
	}
	return out
}

func byAge(in []*corev1.Service) []*corev1.Service {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b *corev1.Service) int {
		return cmp.Or(
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return out
}

func proxied(s *corev1.Service) bool {
	_, elsewhere := s.Labels[proxyNameLabel]
	return !elsewhere && s.Spec.Type != corev1.ServiceTypeExternalName &&
		s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone
}

func compareServicePorts(a, b ServicePort) int {
	if a.NodePort != b.NodePort {
		if a.NodePort {
			return 1
		}
		return -1
	}
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
}

func (c *compiler) addService(s *corev1.Service) {
	ips := clusterIPs(s)
	internalLocal := s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	externalLocal := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	for _, p := range s.Spec.Ports {
		proto := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if proto != corev1.ProtocolTCP && proto != corev1.ProtocolUDP {
			continue
		}
		sp := ServicePort{Proto: proto, Name: portName(s, p), SessionAffinity: affinity(s)}
		for _, ip := range ips {
			sp.Addr, sp.Port = ip, uint16(p.Port)
			c.add(sp, c.endpoints(s, p.Name, proto, ip.Is4(), internalLocal))
		}
		if p.NodePort != 0 && len(ips) > 0 {
			sp.Addr, sp.Port, sp.NodePort = netip.Addr{}, uint16(p.NodePort), true
			c.add(sp, c.endpoints(s, p.Name, proto, ips[0].Is4(), externalLocal))
		}
	}
}

func (c *compiler) add(sp ServicePort, endpoints []netip.AddrPort) {
	k := portKey{sp.Addr, sp.Port, sp.Proto}
	if c.taken[k] {
		return
	}
	c.taken[k] = true
	sp.Endpoints = endpoints
	c.out = append(c.out, sp)
}

func clusterIPs(s *corev1.Service) []netip.Addr {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	var out []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func portName(s *corev1.Service, p corev1.ServicePort) string {
	if p.Name == "" {
		return fmt.Sprintf("%s/%s", s.Namespace, s.Name)
	}
	return fmt.Sprintf("%s/%s:%s", s.Namespace, s.Name, p.Name)
}

func affinity(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
}

// endpoints collects where a port's traffic goes, and notes what is local.
func (c *compiler) endpoints(s *corev1.Service, port string, proto corev1.Protocol, v4, localOnly bool) []netip.AddrPort {
	var ready, draining []netip.AddrPort
	for _, slice := range c.slices[serviceKey{s.Namespace, s.Name}] {
		target, ok := targetPort(slice, port, proto)
		if !ok || v4 != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			addr, ok := endpointAddr(e)
			if !ok {
				continue
			}
			local := c.isLocal(e, addr)
			if local {
				c.local[addr] = true
			}
			switch at := netip.AddrPortFrom(addr, target); {
			case localOnly && !local:
			case e.Conditions.Ready == nil || *e.Conditions.Ready:
				ready = append(ready, at)
			case isTrue(e.Conditions.Serving) && isTrue(e.Conditions.Terminating):
				draining = append(draining, at)
			}
		}
	}
	if len(ready) == 0 {
		ready = draining
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

func targetPort(slice *discoveryv1.EndpointSlice, name string, proto corev1.Protocol) (uint16, bool) {
	for _, p := range slice.Ports {
		portName, portProto := "", corev1.ProtocolTCP
		if p.Name != nil {
			portName = *p.Name
		}
		if p.Protocol != nil {
			portProto = *p.Protocol
		}
		if p.Port != nil && portName == name && portProto == proto {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func endpointAddr(e *discoveryv1.Endpoint) (netip.Addr, bool) {
	if len(e.Addresses) == 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	return a, err == nil
}

func (c *compiler) isLocal(e *discoveryv1.Endpoint, a netip.Addr) bool {
	return e.NodeName != nil && *e.NodeName == c.opts.NodeName || slices.Contains(c.opts.NodeIPs, a)
}

func isTrue(b *bool) bool { return b != nil && *b }
