package dns

import (
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// zone is everything known of the cluster domain at one moment. It is never
// changed.
type zone struct {
	domain     string // "cluster.local."
	ready      bool
	services   map[string]*service // by "name.namespace"
	namespaces map[string]bool
	reverse    map[string]string // "4.3.2.1.in-addr.arpa." to a full name
}

// service is one service's names.
type service struct {
	name     string // full
	external string // alias, for ExternalName
	headless bool
	ips      []netip.Addr
	ports    []port     // of a service with a cluster IP
	hosts    []endpoint // of a headless one
}

type port struct {
	name   string
	proto  string // lower case
	number uint16
}

type endpoint struct {
	host  string // first label
	addr  netip.Addr
	ports []port
}

func newZone(domain string, services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, ready bool) *zone {
	z := &zone{
		domain: strings.ToLower(mdns.Fqdn(domain)), ready: ready,
		services: map[string]*service{}, namespaces: map[string]bool{}, reverse: map[string]string{},
	}
	publishAll := map[string]bool{}
	for _, s := range services {
		z.addService(s)
		publishAll[s.Name+"."+s.Namespace] = s.Spec.PublishNotReadyAddresses
	}
	for _, es := range endpointSlices {
		key := es.Labels[discoveryv1.LabelServiceName] + "." + es.Namespace
		if svc := z.services[key]; svc != nil && svc.headless {
			z.addEndpoints(svc, es, publishAll[key])
		}
	}
	for _, svc := range z.services {
		slices.SortStableFunc(svc.hosts, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	}
	return z
}

func (z *zone) addService(s *corev1.Service) {
	key := s.Name + "." + s.Namespace
	svc := &service{name: key + ".svc." + z.domain}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		svc.external = mdns.Fqdn(s.Spec.ExternalName)
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		svc.headless = true
	default:
		z.addClusterIPs(svc, s)
	}
	z.services[key] = svc
	z.namespaces[s.Namespace] = true
}

func (z *zone) addClusterIPs(svc *service, s *corev1.Service) {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	for _, t := range texts {
		ip, err := netip.ParseAddr(t)
		if err != nil {
			continue
		}
		svc.ips = append(svc.ips, ip)
		if rev, err := mdns.ReverseAddr(t); err == nil {
			z.reverse[rev] = svc.name
		}
	}
	for _, p := range s.Spec.Ports {
		proto := string(p.Protocol)
		if proto == "" {
			proto = "TCP"
		}
		svc.ports = append(svc.ports, port{p.Name, strings.ToLower(proto), uint16(p.Port)})
	}
}

func (z *zone) addEndpoints(svc *service, es *discoveryv1.EndpointSlice, all bool) {
	ports := slicePorts(es)
	for _, e := range es.Endpoints {
		if !all && e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
			continue
		}
		ip, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue
		}
		host := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
		if e.Hostname != nil && *e.Hostname != "" {
			host = strings.ToLower(*e.Hostname)
			if rev, err := mdns.ReverseAddr(ip.String()); err == nil {
				z.reverse[rev] = host + "." + svc.name
			}
		}
		svc.hosts = append(svc.hosts, endpoint{host, ip, ports})
	}
}

func slicePorts(es *discoveryv1.EndpointSlice) []port {
	var out []port
	for _, p := range es.Ports {
		if p.Port == nil {
			continue
		}
		np := port{proto: "tcp", number: uint16(*p.Port)}
		if p.Name != nil {
			np.name = *p.Name
		}
		if p.Protocol != nil {
			np.proto = strings.ToLower(string(*p.Protocol))
		}
		out = append(out, np)
	}
	return out
}

// owns tells whether the zone answers for a name: those of the cluster domain,
// and the reverse names of its services.
func (z *zone) owns(name string) bool {
	name = strings.ToLower(name)
	return mdns.IsSubDomain(z.domain, name) || z.reverse[name] != ""
}
