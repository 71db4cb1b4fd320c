package apiservice

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Server is where one API server listens.
type Server struct {
	URL       string       `json:"url"`                 // for people: what a kubeconfig says
	Addresses []netip.Addr `json:"addresses,omitempty"` // where pods reach it; none if they do not
	Port      int32        `json:"port"`
}

// ServerKey is the key under which a process keeps where it listens.
func ServerKey(process string) string { return schema.APIServersPrefix + process }

// ParseServer reads what is under such a key.
func ParseServer(kv registry.KV) (Server, error) {
	var s Server
	if err := json.Unmarshal(kv.Value, &s); err != nil {
		return Server{}, fmt.Errorf("%s: %w", kv.Key, err)
	}
	return s, nil
}

// Service is the service, its endpoints and their slice. They are complete in
// what Kubernetes would set by itself, so that nothing differs by default.
type Service struct {
	Service   *corev1.Service
	Endpoints *corev1.Endpoints
	Slice     *discoveryv1.EndpointSlice
}

const (
	portName = "https"
	port     = 443
)

// ManagedBy marks the slice: no other controller touches it.
const ManagedBy = "apiserver.evenkeel.io"

// Compute returns the service at an address, with the servers that pods can
// reach at the port that the first of them has.
func Compute(ip netip.Addr, servers []Server) Service {
	addresses, target := reachable(servers)
	labels := map[string]string{"component": "apiserver", "provider": "kubernetes"}
	meta := metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: Name}
	out := Service{
		Service: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip.String(),
			Ports: []corev1.ServicePort{{Name: portName, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt32(target)}},
		}},
		Endpoints: &corev1.Endpoints{ObjectMeta: meta},
		Slice:     &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4},
	}
	out.Service.Labels = labels
	out.Endpoints.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
	out.Slice.Labels = map[string]string{discoveryv1.LabelServiceName: Name, discoveryv1.LabelManagedBy: ManagedBy}
	if len(addresses) == 0 {
		return out
	}
	name, protocol, ready := portName, corev1.ProtocolTCP, true
	out.Slice.Ports = []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &target}}
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: portName, Protocol: corev1.ProtocolTCP, Port: target}}}
	for _, addr := range addresses {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: addr.String()})
		out.Slice.Endpoints = append(out.Slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	out.Endpoints.Subsets = []corev1.EndpointSubset{subset}
	return out
}

// reachable are the addresses at which pods find an API server, and their
// port. All have to have the same one: the first counts.
func reachable(servers []Server) (addresses []netip.Addr, port int32) {
	port = 6443
	found := false
	for _, s := range servers {
		if len(s.Addresses) == 0 {
			continue
		}
		if !found {
			found, port = true, s.Port
		}
		for _, addr := range s.Addresses {
			if s.Port == port && addr.Is4() {
				addresses = append(addresses, addr)
			}
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses), port
}
