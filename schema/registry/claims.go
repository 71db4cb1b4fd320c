package registry

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
)

// Cluster IPs and node ports are claimed by a key each, in the transaction
// that writes the service: two services can never hold the same one, and
// nothing has to be repaired after a crash.

// claimAttempts bounds how many addresses or ports are tried one after the
// other before the range counts as full.
const claimAttempts = 4096

func ipPath(ip string) string { return schema.ServiceIPsPrefix + ip }

func portPath(protocol corev1.Protocol, port int32) string {
	return fmt.Sprintf("%s%s/%d", schema.ServicePortsPrefix, strings.ToLower(string(protocol)), port)
}

// claimsOf returns the claim keys that a service needs.
func claimsOf(svc *corev1.Service) map[string]bool {
	claims := map[string]bool{}
	if hasClusterIP(svc) && svc.Spec.ClusterIP != "" {
		claims[ipPath(svc.Spec.ClusterIP)] = true
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			claims[portPath(p.Protocol, p.NodePort)] = true
		}
	}
	return claims
}

func hasClusterIP(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

func wantsNodePorts(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// allocate fills in the cluster IP and node ports that a service asks for
// without naming them, the attempt-th choice of each; what old has is kept.
func (r *Registries) allocate(svc, old *corev1.Service, attempt int) error {
	if !hasClusterIP(svc) {
		if svc.Spec.Type == corev1.ServiceTypeExternalName {
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "", nil
		} else {
			svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		}
	} else {
		if svc.Spec.ClusterIP == "" && old != nil && hasClusterIP(old) {
			svc.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIP = r.pickIP(svc, attempt).String()
		}
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		if err := r.inServiceRange(svc); err != nil {
			return err
		}
	}
	setFamilies(svc, old)
	return r.allocatePorts(svc, old, attempt)
}

// setFamilies says of a service that says nothing of it that it has addresses
// of one family: of that of its cluster IP, or else of pods. An external name
// has none, and loses those that it had as another type.
func setFamilies(svc, old *corev1.Service) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		if old != nil && old.Spec.Type != svc.Spec.Type && slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies) {
			svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = nil, nil
		}
		return
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && ip.Is6() {
			svc.Spec.IPFamilies[0] = corev1.IPv6Protocol
		}
	}
	if svc.Spec.IPFamilyPolicy == nil {
		svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	}
}

// inServiceRange refuses a cluster IP that was asked for and is no address for
// services; what is no address at all is validation's to say.
func (r *Registries) inServiceRange(svc *corev1.Service) error {
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil || r.cfg.ServiceCIDR.Contains(ip) {
		return nil
	}
	return invalidService(svc, field.Invalid(field.NewPath("spec", "clusterIP"), svc.Spec.ClusterIP,
		fmt.Sprintf("the provided IP is not in the valid range. The range of valid IPs is %s", r.cfg.ServiceCIDR)))
}

func (r *Registries) allocatePorts(svc, old *corev1.Service, attempt int) error {
	taken := map[string]bool{}
	for _, p := range svc.Spec.Ports {
		taken[portPath(p.Protocol, p.NodePort)] = true
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if !wantsNodePorts(svc) {
			p.NodePort = 0
			continue
		}
		if p.NodePort == 0 {
			p.NodePort = keptPort(*p, old)
		}
		if p.NodePort != 0 && (p.NodePort < r.cfg.NodePorts.First || p.NodePort > r.cfg.NodePorts.Last) {
			return invalidService(svc, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort,
				fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", r.cfg.NodePorts.First, r.cfg.NodePorts.Last)))
		}
		if p.NodePort == 0 {
			p.NodePort = r.freePort(svc, i, attempt, taken)
		}
		if p.NodePort == 0 {
			return apierrors.NewInternalError(fmt.Errorf("no free node port in %d-%d", r.cfg.NodePorts.First, r.cfg.NodePorts.Last))
		}
		taken[portPath(p.Protocol, p.NodePort)] = true
	}
	return nil
}

// freePort is the attempt-th choice for a port that this service does not
// itself use already, or 0.
func (r *Registries) freePort(svc *corev1.Service, index, attempt int, taken map[string]bool) int32 {
	for try := range claimAttempts {
		port := r.pickPort(svc, index, attempt+try)
		if !taken[portPath(svc.Spec.Ports[index].Protocol, port)] {
			return port
		}
	}
	return 0
}

// keptPort is the node port that the old service had for the same port.
func keptPort(p corev1.ServicePort, old *corev1.Service) int32 {
	if old == nil || !wantsNodePorts(old) {
		return 0
	}
	for _, o := range old.Spec.Ports {
		if o.Port == p.Port && o.Protocol == p.Protocol {
			return o.NodePort
		}
	}
	return 0
}

// pickIP spreads services over the range by their name, so that the first try
// is nearly always free. The network's own address, the first and the last are
// left out.
func (r *Registries) pickIP(svc *corev1.Service, attempt int) netip.Addr {
	cidr := r.cfg.ServiceCIDR.Masked()
	size := uint64(1) << min(32, cidr.Addr().BitLen()-cidr.Bits())
	offset := 2 + (spread(svc, 0)+uint64(attempt))%(size-3)
	b := cidr.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(offset))
	return netip.AddrFrom4(b)
}

func (r *Registries) pickPort(svc *corev1.Service, index, attempt int) int32 {
	size := uint64(r.cfg.NodePorts.Last - r.cfg.NodePorts.First + 1)
	return r.cfg.NodePorts.First + int32((spread(svc, index+1)+uint64(attempt))%size)
}

func spread(svc *corev1.Service, salt int) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s/%d", svc.Namespace, svc.Name, salt)
	return h.Sum64()
}

// claimError says which claim of a service another service holds. ok is false
// where the conflicting key is no claim.
func claimError(svc *corev1.Service, conflict string) (error, bool) {
	if ip, ok := strings.CutPrefix(conflict, schema.ServiceIPsPrefix); ok {
		return invalidService(svc, field.Invalid(field.NewPath("spec", "clusterIP"), ip, "another service holds this address")), true
	}
	if port, ok := strings.CutPrefix(conflict, schema.ServicePortsPrefix); ok {
		return invalidService(svc, field.Invalid(field.NewPath("spec", "ports").Child("nodePort"), port, "another service holds this node port")), true
	}
	return nil, false
}

func invalidService(svc *corev1.Service, err *field.Error) error {
	return apierrors.NewInvalid(schema.Services.GVK.GroupKind(), svc.Name, field.ErrorList{err})
}

func isClaim(key string) bool {
	return strings.HasPrefix(key, schema.ServiceIPsPrefix) || strings.HasPrefix(key, schema.ServicePortsPrefix)
}

// asksFor reports whether the service as given names the claim itself, so
// that another choice would not be what was asked.
func asksFor(given *corev1.Service, conflict string) bool { return claimsOf(given)[conflict] }
