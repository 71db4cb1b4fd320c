package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/labels"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/request"
	endpoints "k8s.io/apiserver/pkg/util/proxy"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
)

// locatePod finds the port that is asked for, or else the first that the pod
// declares, or else that of the scheme.
func (c *Config) locatePod(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q: a port of a pod is a number", id))
	}
	pod, err := c.pod(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if port == "" {
		port = firstPort(pod)
	}
	host := pod.Status.PodIP
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("address not allowed: pod %s has none yet", name))
	case err != nil || !ip.IsGlobalUnicast():
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("address not allowed: %s of pod %s", host, name))
	case port != "":
		host = net.JoinHostPort(host, port)
	case ip.Is6():
		host = "[" + host + "]"
	}
	return &url.URL{Scheme: scheme, Host: host}, c.transport(ctx, pod), nil
}

func firstPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			return strconv.Itoa(int(c.Ports[0].ContainerPort))
		}
	}
	return ""
}

// locateService takes any endpoint of the service that is ready. It goes to
// pods alone, as in Kubernetes: who may write endpoints gets nowhere else by
// them, least of all to what the API's own machine has on loopback.
func (c *Config) locateService(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	if number, err := strconv.ParseInt(port, 10, 64); err == nil {
		if port, err = c.portName(ctx, name, number); err != nil {
			return nil, nil, err
		}
	}
	slices, err := c.slices(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	var pod *corev1.Pod
	host, err := endpoints.RandomEndpoint(name, slices, port, corev1.IPFamilyUnknown, func(e *discoveryv1.Endpoint) bool {
		pod = c.podOf(ctx, e)
		return pod != nil
	})
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: scheme, Host: host}, c.transport(ctx, pod), nil
}

// portName is the name of a service's port of that number.
func (c *Config) portName(ctx context.Context, service string, number int64) (string, error) {
	key := schema.Services.Key(request.NamespaceValue(ctx), service)
	obj, err := c.Get(ctx, key)
	if err != nil {
		return "", failure.Of(err, key)
	}
	for _, port := range obj.(*corev1.Service).Spec.Ports {
		if int64(port.Port) == number {
			return port.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, service))
}

func (c *Config) slices(ctx context.Context, service string) ([]*discoveryv1.EndpointSlice, error) {
	objs, err := c.selected(ctx, schema.EndpointSlices, request.NamespaceValue(ctx), &metainternalversion.ListOptions{
		LabelSelector: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}),
	})
	if err != nil {
		return nil, err
	}
	out := make([]*discoveryv1.EndpointSlice, len(objs))
	for i, obj := range objs {
		out[i] = obj.(*discoveryv1.EndpointSlice)
	}
	return out, nil
}

// podOf returns the pod that an endpoint is, or nil if it is none.
func (c *Config) podOf(ctx context.Context, e *discoveryv1.Endpoint) *corev1.Pod {
	ref := e.TargetRef
	if ref == nil || ref.Kind != "Pod" || ref.Namespace != request.NamespaceValue(ctx) {
		return nil
	}
	pod, err := c.pod(ctx, ref.Name)
	if err != nil || !slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == e.Addresses[0] }) {
		return nil
	}
	return pod
}

// locateNode finds the server of a node's agent, and nothing else there. As the
// agent shows the certificate that it pinned, it may have any address.
func (c *Config) locateNode(ctx context.Context, id string) (*url.URL, http.RoundTripper, error) {
	_, name, port, ok := utilnet.SplitSchemeNamePort(id)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	key := schema.Nodes.Key("", name)
	if _, err := c.Get(ctx, key); err != nil {
		return nil, nil, failure.Of(err, key)
	}
	base, transport, err := c.reach(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if port != "" && port != base.Port() {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("node %s is reached at its agent's port %s, not at %s", name, base.Port(), port))
	}
	location := *base
	return &location, transport, nil
}

// transport carries the requests of one proxy to a pod, until ctx ends. It keeps
// no connection: another pod may have the address by the time of the next.
// Whose certificate a pod shows is not checked, for it is reached by address.
func (c *Config) transport(ctx context.Context, pod *corev1.Pod) http.RoundTripper {
	return &http.Transport{
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, fmt.Errorf("address %q of pod %s: %w", address, pod.Name, err)
			}
			return c.connect(ctx, pod, port)
		},
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		TLSHandshakeTimeout: 10 * time.Second,
		DisableKeepAlives:   true,
		DisableCompression:  true,
	}
}
