package access

import (
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

const (
	trustedFor  = 10 * time.Second // as k8s.io/apiserver trusts a token that it has checked
	maxTrusted  = 1000             // certificates that are remembered
	fingerprint = sha256.Size
)

// trusted remembers for a moment whose certificates were good: a client shows
// the same with every request, and to check it is a good part of what a read
// costs. It is safe to use at once by several goroutines.
type trusted struct {
	check authenticator.Request

	mu    sync.Mutex
	known map[[fingerprint]byte]verdict
}

// verdict is who somebody is, and until when that is not asked again.
type verdict struct {
	response *authenticator.Response
	until    time.Time
}

func newTrusted(check authenticator.Request) *trusted {
	return &trusted{check: check, known: map[[fingerprint]byte]verdict{}}
}

// AuthenticateRequest implements authenticator.Request.
func (t *trusted) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return t.check.AuthenticateRequest(req)
	}
	shown := req.TLS.PeerCertificates
	id, now := fingerprintOf(shown), time.Now()
	if response := t.recall(id, now); response != nil {
		return response, true, nil
	}
	response, ok, err := t.check.AuthenticateRequest(req)
	if ok && err == nil {
		until := now.Add(trustedFor)
		if end := shown[0].NotAfter; end.Before(until) {
			until = end
		}
		t.remember(id, verdict{response, until})
	}
	return response, ok, err
}

func (t *trusted) recall(id [fingerprint]byte, now time.Time) *authenticator.Response {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.known[id]; ok && now.Before(v.until) {
		return v.response
	}
	return nil
}

func (t *trusted) remember(id [fingerprint]byte, v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTrusted {
		clear(t.known)
	}
	t.known[id] = v
}

// fingerprintOf tells chains of certificates apart.
func fingerprintOf(shown []*x509.Certificate) [fingerprint]byte {
	if len(shown) == 1 {
		return sha256.Sum256(shown[0].Raw)
	}
	var all []byte
	for _, cert := range shown {
		all = append(all, cert.Raw...)
	}
	return sha256.Sum256(all)
}
