package endpoints

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// pack puts groups into slices: an endpoint stays in the slice that has it,
// new ones fill up what has room, and slices that become empty are used for
// what is left over. A service without endpoints has one empty slice.
func pack(in Input, manager string, groups []*group) []*discoveryv1.EndpointSlice {
	p := &packer{in: in, manager: manager}
	for _, s := range in.Slices {
		if s.Labels[discoveryv1.LabelManagedBy] == manager && s.AddressType == discoveryv1.AddressTypeIPv4 {
			p.have = append(p.have, s)
		}
	}
	slices.SortFunc(p.have, func(a, b *discoveryv1.EndpointSlice) int { return schema.KeyOf(a).Compare(schema.KeyOf(b)) })
	for _, g := range groups {
		p.keep(g)
	}
	for _, g := range groups {
		p.place(g)
	}
	if len(p.out) == 0 {
		p.open(nil)
	}
	return p.out
}

type packer struct {
	in      Input
	manager string
	have    []*discoveryv1.EndpointSlice // not used yet
	out     []*discoveryv1.EndpointSlice
}

// keep takes over the slices of the group's ports with the endpoints that are
// still wanted, and leaves in g those that are in none.
func (p *packer) keep(g *group) {
	left := map[string]discoveryv1.Endpoint{}
	var order []string
	for _, e := range g.endpoints {
		if _, twice := left[endpointKey(e)]; !twice {
			order = append(order, endpointKey(e))
		}
		left[endpointKey(e)] = e
	}
	var unused []*discoveryv1.EndpointSlice
	for _, s := range p.have {
		var kept []discoveryv1.Endpoint
		if portsKey(s.Ports) == portsKey(g.ports) {
			for _, e := range s.Endpoints {
				if now, wanted := left[endpointKey(e)]; wanted {
					kept = append(kept, now)
					delete(left, endpointKey(e))
				}
			}
		}
		if len(kept) == 0 {
			unused = append(unused, s)
			continue
		}
		p.out = append(p.out, p.filled(s, g.ports, kept))
	}
	p.have = unused
	g.endpoints = nil
	for _, key := range order {
		if e, ok := left[key]; ok {
			g.endpoints = append(g.endpoints, e)
		}
	}
}

// place puts what keep left over where there is room.
func (p *packer) place(g *group) {
	for _, s := range p.out {
		if portsKey(s.Ports) == portsKey(g.ports) {
			n := min(len(g.endpoints), max(0, maxSlice-len(s.Endpoints)))
			s.Endpoints = append(s.Endpoints, g.endpoints[:n]...)
			g.endpoints = g.endpoints[n:]
		}
	}
	for len(g.endpoints) > 0 {
		n := min(len(g.endpoints), maxSlice)
		s := p.open(g.ports)
		s.Endpoints = append(s.Endpoints, g.endpoints[:n]...)
		g.endpoints = g.endpoints[n:]
	}
}

// open returns an empty slice: one that is no longer used, or a new one.
func (p *packer) open(ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	var s *discoveryv1.EndpointSlice
	if len(p.have) > 0 {
		s = p.filled(p.have[0], ports, nil)
		p.have = p.have[1:]
	} else {
		s = p.filled(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: p.in.Service.Namespace, Name: p.freeName()},
			AddressType: discoveryv1.AddressTypeIPv4,
		}, ports, nil)
	}
	p.out = append(p.out, s)
	return s
}

// filled is a slice with other contents, and the metadata that the service
// gives it.
func (p *packer) filled(s *discoveryv1.EndpointSlice, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	out := s.DeepCopy()
	out.Ports, out.Endpoints = ports, endpoints
	out.Labels = maps.Clone(p.in.Service.Labels)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.Labels[discoveryv1.LabelServiceName] = p.in.Service.Name
	out.Labels[discoveryv1.LabelManagedBy] = p.manager
	if isHeadless(p.in.Service) {
		out.Labels[corev1.IsHeadlessService] = ""
	}
	out.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p.in.Service, schema.Services.GVK)}
	return out
}

// freeName is the service's name and a hash; the same each time, so that a
// creation whose answer got lost is not made twice.
func (p *packer) freeName() string {
	for n := 0; ; n++ {
		h := fnv.New32a()
		fmt.Fprintf(h, "%s/%d", p.in.Service.UID, n)
		suffix := fmt.Sprintf("%06s", strconv.FormatUint(uint64(h.Sum32()), 36))
		name := p.in.Service.Name + "-" + suffix[len(suffix)-5:]
		used := slices.ContainsFunc(p.out, func(s *discoveryv1.EndpointSlice) bool { return s.Name == name }) ||
			slices.ContainsFunc(p.in.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == name }) ||
			p.in.Taken != nil && p.in.Taken(name)
		if !used {
			return name
		}
	}
}

// endpointKey tells endpoints apart: a new pod with an old address is another.
func endpointKey(e discoveryv1.Endpoint) string {
	key := ""
	if e.TargetRef != nil {
		key = string(e.TargetRef.UID)
	}
	for _, a := range e.Addresses {
		key += " " + a
	}
	return key
}

func portsKey(ports []discoveryv1.EndpointPort) string {
	key := ""
	for _, p := range ports {
		key += fmt.Sprintf("%s/%s/%d/%s ", deref(p.Name), deref(p.Protocol), deref(p.Port), deref(p.AppProtocol))
	}
	return key
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
