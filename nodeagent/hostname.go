package nodeagent

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Limits of the kernel's, in bytes.
const (
	maxLabel    = 63
	maxHostname = 64
)

// hostname is the short name that a pod has for itself.
func hostname(pod *corev1.Pod, node string) string {
	name := pod.Name
	switch {
	case pod.Spec.HostnameOverride != nil:
		name = *pod.Spec.HostnameOverride
	case pod.Spec.HostNetwork:
		name = node
	case pod.Spec.Hostname != "":
		name = pod.Spec.Hostname
	}
	if len(name) > maxLabel {
		name = strings.TrimRight(name[:maxLabel], "-.")
	}
	return name
}

// hostDomain is the domain of a pod's name, or "": it has one only with a
// subdomain.
func hostDomain(pod *corev1.Pod, clusterDomain string) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + clusterDomain
}

// systemName is what the kernel of a pod is given as its name: with
// setHostnameAsFQDN the domain too.
func systemName(pod *corev1.Pod, node, clusterDomain string) (string, error) {
	name, domain := hostname(pod, node), hostDomain(pod, clusterDomain)
	if domain == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return name, nil
	}
	full := name + "." + domain
	if len(full) > maxHostname {
		return "", fmt.Errorf("setHostnameAsFQDN: %s has %d bytes, and a hostname can have %d: shorten hostname or subdomain", full, len(full), maxHostname)
	}
	return full, nil
}
