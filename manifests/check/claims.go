package check

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
)

// claimed is something that only one service can have: a node port of a
// protocol, or a cluster IP.
type claimed struct {
	address  string
	port     int32
	protocol corev1.Protocol
}

func (c claimed) String() string {
	if c.address != "" {
		return "cluster IP " + c.address
	}
	return "node port " + strconv.Itoa(int(c.port)) + "/" + string(c.protocol)
}

func (c claimed) code() string {
	if c.address != "" {
		return manifests.CodeClusterIPTwice
	}
	return manifests.CodeNodePortTwice
}

// claim is a service's hold on something that only one can have.
type claim struct {
	service *object
	field   string
}

// eachClaim calls yield with what a service claims.
func eachClaim(o *object, yield func(claimed, claim)) {
	spec := &o.service().Spec
	for i, p := range spec.Ports {
		if p.NodePort != 0 {
			yield(claimed{port: p.NodePort, protocol: p.Protocol}, claim{o, fmt.Sprintf("spec.ports[%d].nodePort", i)})
		}
	}
	ip, field := spec.ClusterIP, "spec.clusterIP"
	if ip == "" && len(spec.ClusterIPs) > 0 {
		ip, field = spec.ClusterIPs[0], "spec.clusterIPs[0]"
	}
	if ip != "" && ip != corev1.ClusterIPNone {
		yield(claimed{address: ip}, claim{o, field})
	}
}

// checkClaims reports what is claimed more than once, at each declared place.
func (p *pass) checkClaims() {
	for what := range p.index.contested {
		all := slices.SortedStableFunc(slices.Values(p.index.claims[what]), func(a, b claim) int { return a.service.compare(b.service) })
		for i, mine := range all {
			other := all[0]
			if i == 0 {
				other = all[1]
			}
			if mine.service.item == nil || mine.service == other.service {
				continue
			}
			p.report(mine.service.item, finding{
				code: what.code(), field: mine.field, message: what.String() + " is claimed twice", suggestion: p.claimant(other),
			})
		}
	}
}

func (c *Checker) claimant(other claim) string {
	if item := other.service.item; item != nil {
		return "also by " + item.Title + " at " + c.place(item, other.field)
	}
	o := other.service.service()
	return "also by Service " + o.Namespace + "/" + o.Name + " in the cluster"
}
