package reconciler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// dropOfType takes out of a service what only its old type had, and nobody
// asked for: what the cluster chose, and defaults. An explicit field stays, so
// that it is refused (k8s.io/kubernetes/pkg/registry/core/service/strategy.go,
// dropTypeDependentFields).
func dropOfType(updated, live schema.Object) {
	svc, ok := updated.(*corev1.Service)
	old, oldOK := live.(*corev1.Service)
	if !ok || !oldOK || svc.Spec.Type == old.Spec.Type {
		return
	}
	to, from := &svc.Spec, &old.Spec
	if to.Type == corev1.ServiceTypeExternalName && to.ClusterIP == from.ClusterIP && slices.Equal(to.ClusterIPs, from.ClusterIPs) {
		to.ClusterIP, to.ClusterIPs = "", nil
		to.IPFamilies, to.IPFamilyPolicy = nil, nil
	}
	if !isExternal(to) && isExternal(from) {
		dropNodePorts(to, from)
		if to.ExternalTrafficPolicy == from.ExternalTrafficPolicy && len(to.ExternalIPs) == 0 {
			to.ExternalTrafficPolicy = ""
		}
	}
	if to.Type != corev1.ServiceTypeLoadBalancer {
		to.AllocateLoadBalancerNodePorts = dropEqual(to.AllocateLoadBalancerNodePorts, from.AllocateLoadBalancerNodePorts)
		to.LoadBalancerClass = dropEqual(to.LoadBalancerClass, from.LoadBalancerClass)
	}
	if to.HealthCheckNodePort == from.HealthCheckNodePort && to.Type != corev1.ServiceTypeLoadBalancer {
		to.HealthCheckNodePort = 0
	}
	if to.Type == corev1.ServiceTypeExternalName {
		to.InternalTrafficPolicy = dropEqual(to.InternalTrafficPolicy, from.InternalTrafficPolicy)
	}
}

// isExternal reports whether a type of service has ports on the nodes.
func isExternal(s *corev1.ServiceSpec) bool {
	return s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer
}

func dropNodePorts(to, from *corev1.ServiceSpec) {
	had := map[int32]bool{}
	for _, p := range from.Ports {
		had[p.NodePort] = true
	}
	for i := range to.Ports {
		if had[to.Ports[i].NodePort] {
			to.Ports[i].NodePort = 0
		}
	}
}

func dropEqual[T comparable](v, old *T) *T {
	if v != nil && old != nil && *v == *old {
		return nil
	}
	return v
}
