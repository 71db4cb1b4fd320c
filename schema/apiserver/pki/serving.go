package pki

import (
	"crypto/tls"
	"net/netip"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"github.com/evenkeel/evenkeel/schema"
)

// servingLife is how long a certificate of a server is valid, and that with
// which the API server calls node agents.
const servingLife = 24 * time.Hour

// Serving is the certificate that a server shows; it is renewed without a
// restart. It is what k8s.io/apiserver takes as a certificate provider, and
// asks at least once a minute.
type Serving struct{ fresh fresh }

var _ dynamiccertificates.CertKeyContentProvider = (*Serving)(nil)

// Serve returns the certificate of an API server that is reached by the names
// and addresses, and by those that every API server has.
func (a *Authority) Serve(names []string, addresses []netip.Addr) (*Serving, error) {
	s := &Serving{fresh{authority: a, life: servingLife, subject: Subject{
		Name:      "kube-apiserver",
		DNSNames:  append([]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, names...),
		Addresses: append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, addresses...),
	}}}
	_, _, err := s.fresh.current()
	return s, err
}

// Name is what logs call it.
func (s *Serving) Name() string { return "serving-certificate" }

// CurrentCertKeyContent returns the certificate and its key as PEM.
func (s *Serving) CurrentCertKeyContent() (cert, key []byte) {
	pair, _, _ := s.fresh.current() // the first one is there since Serve
	return pair.Certificate, pair.Key
}

// AddListener does nothing: whoever listens looks by itself.
func (s *Serving) AddListener(dynamiccertificates.Listener) {}

// ClientCA is the authority as k8s.io/apiserver takes one.
func (a *Authority) ClientCA() (dynamiccertificates.CAContentProvider, error) {
	return dynamiccertificates.NewStaticCAContent("cluster-ca", a.bundle)
}

// ClientCertificate returns what tls.Config.GetClientCertificate should be of
// whoever calls node agents' servers on behalf of the API.
func (a *Authority) ClientCertificate() func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	f := &fresh{authority: a, life: servingLife, subject: Subject{Name: schema.APIServerUser, Groups: []string{schema.APIServerGroup}}}
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		_, cert, err := f.current()
		return cert, err
	}
}
