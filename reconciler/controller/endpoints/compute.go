package endpoints

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
)

// Who keeps an object, as the values of the labels below say.
const (
	ManagedBy  = "endpointslice-controller." + domain          // slices of selected pods
	MirroredBy = "endpointslicemirroring-controller." + domain // slices of Endpoints made by hand
	keptBy     = "endpoint-controller." + domain               // Endpoints of selected pods

	domain           = "evenkeel.io"
	labelEndpoints   = "endpoints.kubernetes.io/managed-by"
	maxSlice         = 100  // endpoints in one slice, as Kubernetes' default has it
	maxEndpoints     = 1000 // addresses in one Endpoints, as Kubernetes has it
	annotationTooBig = corev1.EndpointsOverCapacity
)

// Input is all that the endpoints of one service are made of.
type Input struct {
	Service   *corev1.Service
	Pods      []*corev1.Pod                // of its namespace; those it does not select are passed over
	NodeReady func(name string) bool       // whether a node's pods can be reached
	Endpoints *corev1.Endpoints            // of its name; nil if there is none
	Slices    []*discoveryv1.EndpointSlice // all that carry its name
	Taken     func(sliceName string) bool  // names that another object has
}

// Output is what should be there. Nil Endpoints are those that this package
// should not keep; slices are complete.
type Output struct {
	Endpoints *corev1.Endpoints
	Slices    []*discoveryv1.EndpointSlice
}

// Compute returns the Endpoints and slices of a service by Kubernetes' rules.
// An endpoint stays in the slice that it is in; slices that need no change are
// returned as they are.
func Compute(in Input) Output {
	svc := in.Service
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return Output{}
	case len(svc.Spec.Selector) > 0:
		groups := selected(in)
		return Output{Endpoints: endpointsOf(in, groups), Slices: pack(in, ManagedBy, groups)}
	case in.Endpoints == nil || isOurs(in.Endpoints) || in.Endpoints.Labels[discoveryv1.LabelSkipMirror] == "true":
		return Output{}
	}
	return Output{Slices: pack(in, MirroredBy, mirrored(in.Endpoints))}
}

func isOurs(e *corev1.Endpoints) bool { return e.Labels[labelEndpoints] == keptBy }

// group is endpoints that share their ports.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// grouping collects endpoints by their ports, in the order of their coming.
type grouping struct {
	byPorts map[string]*group
	order   []*group
}

func (g *grouping) add(ports []discoveryv1.EndpointPort, e ...discoveryv1.Endpoint) {
	key := portsKey(ports)
	if g.byPorts == nil {
		g.byPorts = map[string]*group{}
	}
	if g.byPorts[key] == nil {
		g.byPorts[key] = &group{ports: ports}
		g.order = append(g.order, g.byPorts[key])
	}
	g.byPorts[key].endpoints = append(g.byPorts[key].endpoints, e...)
}

// selected groups the pods that a service selects.
func selected(in Input) []*group {
	pods := slices.Clone(in.Pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	var g grouping
	for _, pod := range pods {
		if !belongs(in.Service, pod) {
			continue
		}
		g.add(portsFor(in.Service, pod), endpointOf(in, pod))
	}
	return g.order
}

// belongs: selected, with an address, and neither finished nor stopped.
func belongs(svc *corev1.Service, pod *corev1.Pod) bool {
	over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Annotations[schema.StoppedAnnotation] != ""
	return pod.Namespace == svc.Namespace && pod.Status.PodIP != "" && !over && hasLabels(pod, svc.Spec.Selector)
}

func hasLabels(pod *corev1.Pod, want map[string]string) bool {
	for k, v := range want {
		if have, ok := pod.Labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// endpointOf: a pod that is ending is not ready, but may still serve what
// began before.
func endpointOf(in Input, pod *corev1.Pod) discoveryv1.Endpoint {
	serving := isReady(pod) && in.NodeReady(pod.Spec.NodeName)
	terminating := pod.DeletionTimestamp != nil
	ready := in.Service.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  []string{pod.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = &pod.Spec.NodeName
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == in.Service.Name {
		e.Hostname = &pod.Spec.Hostname
	}
	return e
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// portsFor resolves a service's ports on a pod; a named port that the pod does
// not have is left out.
func portsFor(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number, ok := targetPort(p, pod)
		if !ok {
			continue
		}
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &number, AppProtocol: p.AppProtocol})
	}
	return out
}

func targetPort(p *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if name := p.TargetPort.StrVal; name != "" {
		for _, c := range pod.Spec.Containers {
			for _, cp := range c.Ports {
				if cp.Name == name && cp.Protocol == p.Protocol {
					return cp.ContainerPort, true
				}
			}
		}
		return 0, false
	}
	if p.TargetPort.IntVal == 0 {
		return p.Port, true
	}
	return p.TargetPort.IntVal, true
}

// mirrored groups what Endpoints made by hand say.
func mirrored(e *corev1.Endpoints) []*group {
	var g grouping
	for _, subset := range e.Subsets {
		var ports []discoveryv1.EndpointPort
		for _, p := range subset.Ports {
			ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.Port, AppProtocol: p.AppProtocol})
		}
		for _, a := range subset.Addresses {
			g.add(ports, mirroredEndpoint(a, true))
		}
		for _, a := range subset.NotReadyAddresses {
			g.add(ports, mirroredEndpoint(a, false))
		}
	}
	return g.order
}

func mirroredEndpoint(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

// endpointsOf is the older form of the same, nil where somebody else keeps it.
// Pods that are ending are not in it.
func endpointsOf(in Input, groups []*group) *corev1.Endpoints {
	if in.Endpoints != nil && !isOurs(in.Endpoints) {
		return nil
	}
	out := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: in.Service.Namespace, Name: in.Service.Name}}
	if in.Endpoints != nil {
		out = in.Endpoints.DeepCopy()
		out.Subsets = nil
	}
	out.Labels = maps.Clone(in.Service.Labels)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.Labels[labelEndpoints] = keptBy
	if isHeadless(in.Service) {
		out.Labels[corev1.IsHeadlessService] = ""
	}
	total := 0
	for _, g := range groups {
		subset := subsetOf(in, g, &total)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
			out.Subsets = append(out.Subsets, subset)
		}
	}
	delete(out.Annotations, annotationTooBig)
	if total > maxEndpoints {
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[annotationTooBig] = "truncated"
	}
	return out
}

func subsetOf(in Input, g *group, total *int) corev1.EndpointSubset {
	var subset corev1.EndpointSubset
	for _, p := range g.ports {
		subset.Ports = append(subset.Ports, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
	}
	for _, e := range g.endpoints {
		if *e.Conditions.Terminating && !in.Service.Spec.PublishNotReadyAddresses {
			continue
		}
		if *total++; *total > maxEndpoints {
			continue
		}
		a := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
		if e.Hostname != nil {
			a.Hostname = *e.Hostname
		}
		if *e.Conditions.Ready {
			subset.Addresses = append(subset.Addresses, a)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, a)
		}
	}
	return subset
}

func isHeadless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }
