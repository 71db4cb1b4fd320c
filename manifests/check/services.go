package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evenkeel/evenkeel/manifests"
)

// leadsAstray reports whether a service may lead nowhere.
func (x *index) leadsAstray(s *object) bool {
	spec := &s.service().Spec
	if len(spec.Selector) == 0 || spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	one := x.anySelected(s.key.Namespace, spec.Selector)
	return one == nil || slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool {
		return p.TargetPort.Type == intstr.String && !one.hasPort(p.TargetPort.StrVal, p.Protocol)
	})
}

// checkService finds services that lead nowhere.
func (p *pass) checkService(s *object, ports portCache) {
	if !p.index.leadsAstray(s) {
		return
	}
	service := s.service()
	if p.index.anySelected(service.Namespace, service.Spec.Selector) == nil {
		p.report(s.item, p.selectsNothing(service))
		return
	}
	for i, port := range service.Spec.Ports {
		if port.TargetPort.Type == intstr.String {
			p.checkTargetPort(s, i, ports)
		}
	}
}

// selectsNothing says which part of the selector is to blame, if it is one.
func (p *pass) selectsNothing(s *corev1.Service) finding {
	f := finding{code: manifests.CodeSelectsNothing, field: "spec.selector"}
	where := "no pod declared in namespace " + s.Namespace
	if p.known {
		where = "no pod in namespace " + s.Namespace + ", declared or in the cluster,"
	}
	for _, k := range slices.Sorted(maps.Keys(s.Spec.Selector)) {
		v := s.Spec.Selector[k]
		if len(p.index.labelled[label{s.Namespace, k, v}]) > 0 {
			continue
		}
		f.field = "spec.selector[" + k + "]"
		f.message = fmt.Sprintf("the service selects nothing: %s has the label %s=%s", where, k, v)
		f.suggestion = p.nearLabel(s, k, v)
		return f
	}
	f.message = fmt.Sprintf("the service selects nothing: %s has all of the labels %s", where, selectorText(s.Spec.Selector))
	return f
}

// nearLabel guesses what was meant by a label that no pod has.
func (p *pass) nearLabel(s *corev1.Service, key, value string) string {
	if values := p.index.valuesOf(s.Namespace, key); len(values) > 0 {
		if near := p.didYouMean(value, values); near != "" {
			return near
		}
		if len(values) == 1 {
			return fmt.Sprintf("pods there have %s=%s", key, values[0])
		}
		return ""
	}
	if near := p.didYouMean(key, p.index.keysOf(s.Namespace)); near != "" {
		return near
	}
	return p.elsewhere(s)
}

// elsewhere names another namespace in which the selector would select.
func (p *pass) elsewhere(s *corev1.Service) string {
	for _, namespace := range slices.Sorted(maps.Keys(p.index.workloadIn)) {
		if p.comparisons--; p.comparisons < 0 {
			return ""
		}
		if p.index.anySelected(namespace, s.Spec.Selector) != nil {
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
	x.selected(s.Namespace, s.Spec.Selector, func(w *object) bool {
		for _, container := range w.spec.Containers {
			for _, port := range container.Ports {
				if port.Name != "" {
					names[port.Name+"/"+string(port.Protocol)] = true
				}
			}
		}
		return true
	})
	pc[key] = names
	return names
}

func (p *pass) checkTargetPort(s *object, i int, ports portCache) {
	port := s.service().Spec.Ports[i]
	name := port.TargetPort.StrVal
	names := ports.of(p.index, s.service())
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
		f.suggestion = p.didYouMean(name, others)
		if f.suggestion == "" && len(others) > 0 && len(others) <= 5 {
			f.suggestion = "their ports are: " + strings.Join(others, ", ")
		}
	}
	p.report(s.item, f)
}
