package access

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// TestTrusted shows certificates again and again: they are checked anew when
// they were not for a while, when they end, and always when they are not good.
func TestTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks, good := 0, true
		trusted := newTrusted(authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
			checks++
			name := string(req.TLS.PeerCertificates[0].Raw)
			return &authenticator.Response{User: &user.DefaultInfo{Name: name}}, good, nil
		}))
		show := func(name string, life time.Duration) func(wantChecks int, wantGood bool) {
			cert := &x509.Certificate{Raw: []byte(name), NotAfter: time.Now().Add(life)}
			req := &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}}
			return func(wantChecks int, wantGood bool) {
				t.Helper()
				response, ok, err := trusted.AuthenticateRequest(req)
				if ok != wantGood || err != nil || ok && response.User.GetName() != name {
					t.Errorf("%s: %v, %v, %v", name, response, ok, err)
				}
				if checks != wantChecks {
					t.Errorf("%s: %d checks, want %d", name, checks, wantChecks)
				}
			}
		}
		a, b, short := show("a", time.Hour), show("b", time.Hour), show("short", 2*time.Second)
		a(1, true)
		a(1, true)
		b(2, true)
		short(3, true)
		good = false
		a(3, true) // for a moment
		<-time.After(3 * time.Second)
		short(4, false)
		short(5, false)
		a(5, true)
		<-time.After(8 * time.Second)
		a(6, false)
		good = true
		for i := range 2 * maxTrusted {
			show(strconv.Itoa(i), time.Hour)(7+i, true)
		}
		if len(trusted.known) > maxTrusted {
			t.Errorf("%d are remembered", len(trusted.known))
		}
	})
}
