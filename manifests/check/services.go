package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evenkeel/evenkeel/manifests"
)

func (c *checker) checkServices() {
	ports := portCache{}
	nodePorts, addresses := map[string][]claim{}, map[string][]claim{}
	for i := range c.index.services {
		s := &c.index.services[i]
		if s.item != nil && len(s.object.Spec.Selector) > 0 && s.object.Spec.Type != corev1.ServiceTypeExternalName {
			c.checkSelector(s, ports)
		}
		s.claimNodePorts(nodePorts)
		s.claimAddresses(addresses)
	}
	c.checkClaims(nodePorts, manifests.CodeNodePortTwice, "node port")
	c.checkClaims(addresses, manifests.CodeClusterIPTwice, "cluster IP")
}

// checkSelector finds services that lead nowhere.
func (c *checker) checkSelector(s *service, ports portCache) {
	first := c.index.firstSelected(s.object.Namespace, s.object.Spec.Selector)
	if first == nil {
		c.report(s.item, c.selectsNothing(s.object))
		return
	}
	for i, p := range s.object.Spec.Ports {
		if p.TargetPort.Type == intstr.String && !first.hasPort(p.TargetPort.StrVal, p.Protocol) {
			c.checkTargetPort(s, i, ports)
		}
	}
}

// selectsNothing says which part of the selector is to blame, if it is one.
func (c *checker) selectsNothing(s *corev1.Service) finding {
	f := finding{code: manifests.CodeSelectsNothing, field: "spec.selector"}
	where := "no pod declared in namespace " + s.Namespace
	if c.cluster.Known {
		where = "no pod in namespace " + s.Namespace + ", declared or in the cluster,"
	}
	for _, k := range slices.Sorted(maps.Keys(s.Spec.Selector)) {
		v := s.Spec.Selector[k]
		if len(c.index.labelled[label{s.Namespace, k, v}]) > 0 {
			continue
		}
		f.field = "spec.selector[" + k + "]"
		f.message = fmt.Sprintf("the service selects nothing: %s has the label %s=%s", where, k, v)
		f.suggestion = c.nearLabel(s, k, v)
		return f
	}
	f.message = fmt.Sprintf("the service selects nothing: %s has all of the labels %s", where, selectorText(s.Spec.Selector))
	return f
}

// nearLabel guesses what was meant by a label that no pod has.
func (c *checker) nearLabel(s *corev1.Service, key, value string) string {
	if values := c.index.valuesOf(s.Namespace, key); len(values) > 0 {
		if near := c.didYouMean(value, values); near != "" {
			return near
		}
		if len(values) == 1 {
			return fmt.Sprintf("pods there have %s=%s", key, values[0])
		}
		return ""
	}
	if near := c.didYouMean(key, c.index.keysOf(s.Namespace)); near != "" {
		return near
	}
	return c.elsewhere(s)
}

// elsewhere names another namespace in which the selector would select.
func (c *checker) elsewhere(s *corev1.Service) string {
	for _, namespace := range slices.Sorted(maps.Keys(c.index.workloadIn)) {
		if c.comparisons--; c.comparisons < 0 {
			return ""
		}
		if c.index.firstSelected(namespace, s.Spec.Selector) != nil {
			return "pods with these labels are in namespace " + namespace
		}
	}
	return ""
}

// portCache holds the named ports of what a selector selects.
type portCache map[string]map[string]bool

func selectorText(selector map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(selector)) {
		pairs = append(pairs, k+"="+selector[k])
	}
	return strings.Join(pairs, ",")
}

// of returns the selected pods' ports as "name/protocol".
func (pc portCache) of(x *index, s *corev1.Service) map[string]bool {
	key := s.Namespace + "/" + selectorText(s.Spec.Selector)
	if names, ok := pc[key]; ok {
		return names
	}
	names := map[string]bool{}
	x.selected(s.Namespace, s.Spec.Selector, func(w *workload) bool {
		for _, container := range w.spec.Containers {
			for _, p := range container.Ports {
				if p.Name != "" {
					names[p.Name+"/"+string(p.Protocol)] = true
				}
			}
		}
		return true
	})
	pc[key] = names
	return names
}

func (c *checker) checkTargetPort(s *service, i int, ports portCache) {
	port := s.object.Spec.Ports[i]
	name := port.TargetPort.StrVal
	names := ports.of(c.index, s.object)
	if names[name+"/"+string(port.Protocol)] {
		return
	}
	f := finding{
		code: manifests.CodeNoNamedPort, field: fmt.Sprintf("spec.ports[%d].targetPort", i),
		message: fmt.Sprintf("no pod that the service selects has a %s port named %q", port.Protocol, name),
	}
	var others, protocols []string
	for _, other := range slices.Sorted(maps.Keys(names)) {
		otherName, protocol, _ := strings.Cut(other, "/")
		if otherName == name {
			protocols = append(protocols, protocol)
		}
		others = append(others, otherName)
	}
	switch {
	case len(protocols) > 0:
		f.suggestion = fmt.Sprintf("the pods' port %q is %s", name, protocols[0])
	default:
		f.suggestion = c.didYouMean(name, others)
		if f.suggestion == "" && len(others) > 0 && len(others) <= 5 {
			f.suggestion = "their ports are: " + strings.Join(others, ", ")
		}
	}
	c.report(s.item, f)
}

// claim is a service's hold on something that only one can have.
type claim struct {
	service *service
	field   string
}

func (s *service) claimNodePorts(claims map[string][]claim) {
	for i, p := range s.object.Spec.Ports {
		if p.NodePort != 0 {
			what := strconv.Itoa(int(p.NodePort)) + "/" + string(p.Protocol)
			claims[what] = append(claims[what], claim{s, fmt.Sprintf("spec.ports[%d].nodePort", i)})
		}
	}
}

func (s *service) claimAddresses(claims map[string][]claim) {
	ip, field := s.object.Spec.ClusterIP, "spec.clusterIP"
	if ip == "" && len(s.object.Spec.ClusterIPs) > 0 {
		ip, field = s.object.Spec.ClusterIPs[0], "spec.clusterIPs[0]"
	}
	if ip != "" && ip != corev1.ClusterIPNone {
		claims[ip] = append(claims[ip], claim{s, field})
	}
}

// checkClaims reports what is claimed more than once, at each declared place.
func (c *checker) checkClaims(claims map[string][]claim, code, what string) {
	for value, all := range claims {
		if len(all) < 2 {
			continue
		}
		for i, mine := range all {
			other := all[0]
			if i == 0 {
				other = all[1]
			}
			if mine.service.item == nil || mine.service == other.service {
				continue
			}
			c.report(mine.service.item, finding{
				code: code, field: mine.field, message: fmt.Sprintf("%s %s is claimed twice", what, value), suggestion: c.claimant(other),
			})
		}
	}
}

func (c *checker) claimant(other claim) string {
	if item := other.service.item; item != nil {
		return "also by " + item.Title + " at " + c.place(item, other.field)
	}
	o := other.service.object
	return "also by Service " + o.Namespace + "/" + o.Name + " in the cluster"
}
