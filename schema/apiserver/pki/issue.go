package pki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Subject says for whom a certificate is. With names or addresses it is for a
// server, without for a client.
type Subject struct {
	Name      string   // a user
	Groups    []string // that the user is in
	DNSNames  []string
	Addresses []netip.Addr
}

// Pair is a certificate with its key, both as PEM.
type Pair struct {
	Certificate, Key []byte
	Ends             time.Time // when it is no longer valid
}

// Issue makes a certificate that is valid for life, but never longer than the
// authority itself.
func (a *Authority) Issue(s Subject, life time.Duration) (Pair, error) {
	pair, err := a.issue(s, life)
	if err != nil {
		return Pair{}, fmt.Errorf("issue a certificate for %q: %w", s.Name, err)
	}
	return pair, nil
}

func (a *Authority) issue(s Subject, life time.Duration) (Pair, error) {
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return Pair{}, err
	}
	now := a.now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.Name, Organization: slices.Sorted(slices.Values(s.Groups))},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     s.DNSNames,
	}
	if end := a.cert.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end
	}
	for _, addr := range s.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.Unmap().AsSlice()))
	}
	if len(s.DNSNames)+len(s.Addresses) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	encoded, err := encodeKey(key)
	return Pair{Certificate: encodeCertificate(der), Key: encoded, Ends: template.NotAfter}, err
}

// fresh is a certificate that is made anew when two thirds of its life are
// over. Time is looked at when it is asked for, so that a machine that was
// asleep never shows an old one.
type fresh struct {
	authority *Authority
	subject   Subject
	life      time.Duration

	mu   sync.Mutex
	pair Pair
	tls  *tls.Certificate
}

// current returns the certificate. If no new one can be made the old one stays.
func (f *fresh) current() (Pair, *tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tls != nil && f.pair.Ends.Sub(f.authority.now()) > f.life/3 {
		return f.pair, f.tls, nil
	}
	err := f.renewLocked()
	if err != nil && f.tls == nil {
		return Pair{}, nil, err
	}
	return f.pair, f.tls, nil
}

func (f *fresh) renewLocked() error {
	pair, err := f.authority.Issue(f.subject, f.life)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return err
	}
	f.pair, f.tls = pair, &cert
	return nil
}
