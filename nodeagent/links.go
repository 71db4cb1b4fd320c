package nodeagent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// links are the services that pods hear of by environment variables. They are
// read when a pod needs them: a copy under each node's bindings would be
// written anew on every node whenever one service of a large namespace
// changes, and the proxy beside the agent reads them all anyway.
type links struct {
	store registry.Store

	mu    sync.Mutex
	known map[string]*namespaceLinks
}

// namespaceLinks are a namespace's services as last read.
type namespaceLinks struct {
	mu       sync.Mutex // held while they are read: those who want the same wait
	services []*corev1.Service
	revision int64
	read     time.Time
	failed   time.Time // when the store last did not answer
}

const (
	linksAge  = 10 * time.Second // after which services are read again, or a store that did not answer is asked again
	linksWait = 2 * time.Second  // after which a pod does with what was read before
)

func newLinks(store registry.Store) *links {
	return &links{store: store, known: map[string]*namespaceLinks{}}
}

// variables are the service variables of a pod's environment: those of its
// namespace unless it does without, and always those of the API. All services
// that were there at a revision are in it, but when the store does not answer:
// then it is what was known before.
func (l *links) variables(ctx context.Context, pod *corev1.Pod, revision int64) map[string]string {
	out := map[string]string{}
	add := func(namespace string, only string) {
		for _, s := range l.services(ctx, namespace, revision) {
			if only == "" || s.Name == only {
				linkVariables(s, out)
			}
		}
	}
	add(metav1.NamespaceDefault, "kubernetes")
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		add(pod.Namespace, "")
	}
	return out
}

func (l *links) services(ctx context.Context, namespace string, revision int64) []*corev1.Service {
	l.mu.Lock()
	n := l.known[namespace]
	if n == nil {
		n = &namespaceLinks{}
		l.known[namespace] = n
	}
	l.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	current := n.revision >= revision && time.Since(n.read) < linksAge && !n.read.IsZero()
	if current || time.Since(n.failed) < linksAge {
		return n.services
	}
	ctx, cancel := context.WithTimeout(ctx, linksWait)
	defer cancel()
	kvs, at, err := l.store.List(ctx, schema.Services.Prefix(namespace), 0)
	if err != nil {
		n.failed = time.Now()
		return n.services
	}
	n.services, n.revision, n.read, n.failed = nil, at, time.Now(), time.Time{}
	for _, kv := range kvs {
		if obj, err := schema.DecodeObject(kv.Value); err == nil {
			if s, ok := obj.(*corev1.Service); ok {
				n.services = append(n.services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: s.Name}, Spec: corev1.ServiceSpec{
					Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, Ports: s.Spec.Ports,
				}})
			}
		}
	}
	return n.services
}

// linkVariables adds the variables of one service (Kubernetes: "Discovering
// services", environment variables). Pure.
func linkVariables(s *corev1.Service, out map[string]string) {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	prefix := variableName(s.Name)
	out[prefix+"_SERVICE_HOST"] = ip
	out[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i, p := range s.Spec.Ports {
		number := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			out[prefix+"_SERVICE_PORT_"+variableName(p.Name)] = number
		}
		protocol := strings.ToLower(string(p.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		address := protocol + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			out[prefix+"_PORT"] = address
		}
		port := fmt.Sprintf("%s_PORT_%s_%s", prefix, number, strings.ToUpper(protocol))
		out[port] = address
		out[port+"_PROTO"] = protocol
		out[port+"_PORT"] = number
		out[port+"_ADDR"] = ip
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
