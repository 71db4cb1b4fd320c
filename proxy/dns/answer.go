package dns

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"strings"

	mdns "github.com/miekg/dns"
)

// ttl of every record, in seconds: a change is seen soon, and pods ask locally.
const ttl = 5

// specVersion is what dns-version.<domain> says.
const specVersion = "1.1.0"

// answer resolves a question the zone owns. A name that does not exist gives
// NXDOMAIN, one without records of the type an empty answer; both with the
// SOA, from which resolvers learn how long to remember it.
func (z *zone) answer(q mdns.Question) *mdns.Msg {
	m := new(mdns.Msg)
	if !z.ready {
		m.Rcode = mdns.RcodeServerFailure
		return m
	}
	exists := z.lookup(m, q)
	if !exists {
		m.Rcode = mdns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, z.soa())
	}
	return m
}

// lookup adds the records for q to m and reports whether the name exists.
func (z *zone) lookup(m *mdns.Msg, q mdns.Question) bool {
	name := strings.ToLower(q.Name)
	if target, ok := z.reverse[name]; ok {
		if wants(q, mdns.TypePTR) {
			m.Answer = append(m.Answer, &mdns.PTR{Hdr: header(q.Name, mdns.TypePTR), Ptr: target})
		}
		return true
	}
	rest := strings.TrimSuffix(strings.TrimSuffix(name, z.domain), ".")
	switch labels := strings.Split(rest, "."); {
	case rest == "":
		z.apex(m, q)
		return true
	case rest == "dns-version":
		if wants(q, mdns.TypeTXT) {
			m.Answer = append(m.Answer, &mdns.TXT{Hdr: header(q.Name, mdns.TypeTXT), Txt: []string{specVersion}})
		}
		return true
	case labels[len(labels)-1] == "svc":
		return z.lookupService(m, q, labels[:len(labels)-1])
	}
	return false
}

func (z *zone) apex(m *mdns.Msg, q mdns.Question) {
	if wants(q, mdns.TypeSOA) {
		m.Answer = append(m.Answer, z.soa())
	}
	if wants(q, mdns.TypeNS) {
		m.Answer = append(m.Answer, &mdns.NS{Hdr: header(q.Name, mdns.TypeNS), Ns: "ns.dns." + z.domain})
	}
}

// lookupService resolves what stands before ".svc": [[x.]y.]name.namespace.
func (z *zone) lookupService(m *mdns.Msg, q mdns.Question, labels []string) bool {
	switch len(labels) {
	case 0:
		return true
	case 1:
		return z.namespaces[labels[0]]
	}
	k := len(labels) - 2
	svc := z.services[labels[k]+"."+labels[k+1]]
	if svc == nil {
		return false
	}
	switch before := labels[:k]; len(before) {
	case 0:
		svc.addresses(m, q)
		return true
	case 1:
		return svc.host(m, q, before[0])
	case 2:
		return svc.srv(m, q, strings.TrimPrefix(before[0], "_"), strings.TrimPrefix(before[1], "_"))
	}
	return false
}

// addresses answers for the service's own name.
func (s *service) addresses(m *mdns.Msg, q mdns.Question) {
	if s.external != "" {
		m.Answer = append(m.Answer, &mdns.CNAME{Hdr: header(q.Name, mdns.TypeCNAME), Target: s.external})
		return
	}
	for _, ip := range s.ips {
		addAddress(m, q, ip)
	}
	for _, i := range rand.Perm(len(s.hosts)) {
		addAddress(m, q, s.hosts[i].addr)
	}
	if wants(q, mdns.TypeSRV) && q.Qtype == mdns.TypeSRV {
		s.srv(m, q, "", "")
	}
}

// host answers for one endpoint of a headless service, or for "_tcp".
func (s *service) host(m *mdns.Msg, q mdns.Question, label string) bool {
	found := false
	for _, h := range s.hosts {
		if h.host == label {
			found = true
			addAddress(m, q, h.addr)
		}
	}
	return found || s.hasProto(strings.TrimPrefix(label, "_"))
}

func (s *service) hasProto(proto string) bool {
	for _, p := range s.allPorts() {
		if p.proto == proto {
			return true
		}
	}
	return false
}

func (s *service) allPorts() []port {
	out := s.ports
	for _, h := range s.hosts {
		out = append(out[:len(out):len(out)], h.ports...)
	}
	return out
}

// srv answers for a named port, or with empty names for every one.
func (s *service) srv(m *mdns.Msg, q mdns.Question, name, proto string) bool {
	matches := func(p port) bool { return cmp.Or(name, p.name) == p.name && cmp.Or(proto, p.proto) == p.proto }
	found := false
	add := func(p port, target string, ips ...netip.Addr) {
		found = true
		if q.Qtype != mdns.TypeSRV {
			return
		}
		m.Answer = append(m.Answer, &mdns.SRV{Hdr: header(q.Name, mdns.TypeSRV), Weight: 100, Port: p.number, Target: target})
		for _, ip := range ips {
			m.Extra = append(m.Extra, addressRecord(target, ip))
		}
	}
	for _, p := range s.ports {
		if matches(p) {
			add(p, s.name, s.ips...)
		}
	}
	for _, h := range s.hosts {
		for _, p := range h.ports {
			if matches(p) {
				add(p, h.host+"."+s.name, h.addr)
			}
		}
	}
	return found
}

func addAddress(m *mdns.Msg, q mdns.Question, ip netip.Addr) {
	if rr := addressRecord(q.Name, ip); wants(q, rr.Header().Rrtype) {
		m.Answer = append(m.Answer, rr)
	}
}

func addressRecord(name string, ip netip.Addr) mdns.RR {
	if ip.Is4() {
		return &mdns.A{Hdr: header(name, mdns.TypeA), A: ip.AsSlice()}
	}
	return &mdns.AAAA{Hdr: header(name, mdns.TypeAAAA), AAAA: ip.AsSlice()}
}

func wants(q mdns.Question, kind uint16) bool { return q.Qtype == kind || q.Qtype == mdns.TypeANY }

func header(name string, kind uint16) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: kind, Class: mdns.ClassINET, Ttl: ttl}
}

func (z *zone) soa() mdns.RR {
	return &mdns.SOA{
		Hdr: header(z.domain, mdns.TypeSOA), Ns: "ns.dns." + z.domain, Mbox: "hostmaster." + z.domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}
