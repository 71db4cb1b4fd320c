package volume

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Resolv is what a resolv.conf says.
type Resolv struct {
	Nameservers []string
	Searches    []string
	Options     []string // "ndots:5"
}

// Render is the file's text. Pure.
func (r Resolv) Render() []byte {
	var b bytes.Buffer
	for _, server := range r.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Searches, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}

// ParseResolvConf reads a resolv.conf, of which the last search line counts.
// Lines of other kinds are left out. Pure.
func ParseResolvConf(text []byte) Resolv {
	var r Resolv
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.Nameservers = append(r.Nameservers, fields[1])
		case "search", "domain":
			r.Searches = fields[1:]
		case "options":
			r.Options = append(r.Options, fields[1:]...)
		}
	}
	return r
}

// ClusterDNS is how names are looked up in the cluster.
type ClusterDNS struct {
	Servers []string // empty: there is none, and pods get the node's
	Domain  string   // "cluster.local"
}

// PodResolv applies a pod's dnsPolicy and dnsConfig, as Kubernetes does: the
// cluster's servers with the namespace's search list, or the node's own, and
// what the pod adds. Pure.
func PodResolv(pod *corev1.Pod, cluster ClusterDNS, node Resolv) Resolv {
	r := basePolicy(pod, cluster, node)
	if extra := pod.Spec.DNSConfig; extra != nil {
		r.Nameservers = merge(r.Nameservers, extra.Nameservers)
		r.Searches = merge(r.Searches, extra.Searches)
		for _, option := range extra.Options {
			r.Options = withOption(r.Options, option)
		}
	}
	return r
}

func basePolicy(pod *corev1.Pod, cluster ClusterDNS, node Resolv) Resolv {
	policy := pod.Spec.DNSPolicy
	if policy == "" {
		policy = corev1.DNSClusterFirst
	}
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork || policy != corev1.DNSNone && len(cluster.Servers) == 0 {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
		return Resolv{}
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet:
		own := []string{pod.Namespace + ".svc." + cluster.Domain, "svc." + cluster.Domain, cluster.Domain}
		return Resolv{Nameservers: slices.Clone(cluster.Servers), Searches: merge(own, node.Searches), Options: []string{"ndots:5"}}
	}
	return Resolv{
		Nameservers: slices.Clone(node.Nameservers), Searches: slices.Clone(node.Searches), Options: slices.Clone(node.Options),
	}
}

// merge appends what is not there yet.
func merge(list, more []string) []string {
	for _, item := range more {
		if !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}

// withOption replaces an option of the same name.
func withOption(options []string, option corev1.PodDNSConfigOption) []string {
	options = slices.DeleteFunc(options, func(have string) bool {
		name, _, _ := strings.Cut(have, ":")
		return name == option.Name
	})
	if option.Value != nil && *option.Value != "" {
		return append(options, option.Name+":"+*option.Value)
	}
	return append(options, option.Name)
}
