package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/httpstream"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/registry/rest"
)

// proxied is a subresource that carries any request to what its object serves.
// A name may have a port, or a scheme and a port: "web:80", "https:web:443".
type proxied struct {
	*Config
	options func() runtime.Object
	// locate says where what a name means is served, and what carries requests
	// there until ctx ends.
	locate func(ctx context.Context, id string) (*url.URL, http.RoundTripper, error)
	// upgradeCreates is for objects of which an upgraded request is a shell.
	upgradeCreates bool
}

var _ rest.Connecter = &proxied{}

// NewPodProxy returns the storage of pods/proxy.
func NewPodProxy(cfg *Config) rest.Storage {
	return &proxied{Config: cfg, options: func() runtime.Object { return &corev1.PodProxyOptions{} }, locate: cfg.locatePod}
}

// NewServiceProxy returns the storage of services/proxy.
func NewServiceProxy(cfg *Config) rest.Storage {
	return &proxied{Config: cfg, options: func() runtime.Object { return &corev1.ServiceProxyOptions{} }, locate: cfg.locateService}
}

// NewNodeProxy returns the storage of nodes/proxy.
func NewNodeProxy(cfg *Config) rest.Storage {
	return &proxied{
		Config: cfg, options: func() runtime.Object { return &corev1.NodeProxyOptions{} },
		locate: cfg.locateNode, upgradeCreates: true,
	}
}

// New implements rest.Storage.
func (p *proxied) New() runtime.Object { return p.options() }

// Destroy implements rest.Storage.
func (p *proxied) Destroy() {}

// NewConnectOptions implements rest.Connecter: what follows in the path is the
// options' path.
func (p *proxied) NewConnectOptions() (runtime.Object, bool, string) {
	return p.options(), true, "path"
}

// ConnectMethods implements rest.Connecter.
func (p *proxied) ConnectMethods() []string {
	return []string{
		http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodHead, http.MethodOptions,
	}
}

// Connect implements rest.Connecter.
func (p *proxied) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	path, err := pathOf(options)
	if err != nil {
		return nil, err
	}
	location, transport, err := p.locate(ctx, id)
	if err != nil {
		return nil, err
	}
	location.Path = utilnet.JoinPreservingTrailingSlash(location.Path, path)
	handler := proxy.NewUpgradeAwareHandler(location, transport, true, false, proxy.NewErrorResponder(responder))
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if p.upgradeCreates && httpstream.IsUpgradeRequest(req) {
			if err := p.mayCreate(ctx); err != nil {
				responder.Error(err)
				return
			}
		}
		handler.ServeHTTP(w, req)
	}), nil
}

func pathOf(options runtime.Object) (string, error) {
	switch o := options.(type) {
	case *corev1.PodProxyOptions:
		return o.Path, nil
	case *corev1.ServiceProxyOptions:
		return o.Path, nil
	case *corev1.NodeProxyOptions:
		return o.Path, nil
	}
	return "", fmt.Errorf("options of a proxy: %T", options)
}
