// Package agents reaches the servers of node agents for the API: at the
// address and port that a node's status says, and only if they show the very
// certificate that it pins.
//
// The API server calls it for logs, exec and the like. It follows no redirects
// and keeps no node's answers.
package agents

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
)

// Agents are the servers of all nodes. It is safe for use by many at once.
type Agents struct {
	status      func(node string) *corev1.Node
	certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	mu    sync.Mutex
	known map[string]agent // by node
}

// agent is a server as it was last reached.
type agent struct {
	host, pin string
	transport *http.Transport
}

// New returns the agents of a cluster; status is what a node's agent says of
// itself, or nil.
func New(authority *pki.Authority, status func(node string) *corev1.Node) *Agents {
	return &Agents{status: status, certificate: authority.ClientCertificate(), known: map[string]agent{}}
}

// Reach returns the address of a node's server and what carries requests there,
// an *http.Transport. A node whose agent has not said where its server is is
// 503 Service Unavailable.
func (a *Agents) Reach(_ context.Context, node string) (*url.URL, http.RoundTripper, error) {
	status := a.status(node)
	if status == nil {
		a.forget(node)
		return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s: its agent has not reported yet", node))
	}
	host, pin := hostOf(status), status.Annotations[schema.ServingAnnotation]
	if host == "" || pin == "" {
		return nil, nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s: its agent serves no logs and runs no commands", node))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	reached := a.known[node]
	if reached.host != host || reached.pin != pin {
		if reached.transport != nil {
			reached.transport.CloseIdleConnections()
		}
		reached = agent{host, pin, a.transport(pin)}
		a.known[node] = reached
	}
	return &url.URL{Scheme: "https", Host: host}, reached.transport, nil
}

func (a *Agents) forget(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.known[node].transport; t != nil {
		t.CloseIdleConnections()
	}
	delete(a.known, node)
}

// Close closes the connections that are not in use.
func (a *Agents) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range a.known {
		known.transport.CloseIdleConnections()
	}
}

// hostOf is the address and port of a node's server, or "".
func hostOf(node *corev1.Node) string {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP && port != 0 {
			return net.JoinHostPort(address.Address, strconv.Itoa(int(port)))
		}
	}
	return ""
}

// transport trusts the one certificate that is pinned, whoever signed it.
func (a *Agents) transport(pin string) *http.Transport {
	return &http.Transport{
		TLSClientConfig: &tls.Config{
			MinVersion:           tls.VersionTLS12,
			InsecureSkipVerify:   true, // VerifyConnection does
			VerifyConnection:     func(state tls.ConnectionState) error { return verify(state, pin) },
			GetClientCertificate: a.certificate,
		},
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     time.Minute,
		MaxIdleConnsPerHost: 4,
	}
}

var errPin = errors.New("the server shows another certificate than the node's status pins")

func verify(state tls.ConnectionState, pin string) error {
	if len(state.PeerCertificates) == 0 {
		return errPin
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	if "sha256:"+hex.EncodeToString(sum[:]) != pin {
		return errPin
	}
	return nil
}
