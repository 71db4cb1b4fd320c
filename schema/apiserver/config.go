package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// Config is an API server to run.
type Config struct {
	Registries *registry.Registries

	// Mirror answers lists and feeds watches; it has one prefix, and somebody
	// runs it. Nil: the store does both. Unmirrored are the kinds it skips.
	Mirror     *registry.Mirror
	Unmirrored []*schema.Kind

	// Listeners take connections; Run closes them. Certificate is what they
	// show, and ClientCA whose certificates they ask of clients; both may change
	// while the server runs. A Certificate that has a Run method is run.
	Listeners   []net.Listener
	Certificate dynamiccertificates.CertKeyContentProvider
	ClientCA    dynamiccertificates.CAContentProvider // nil: none is asked for

	// Authenticator says who asks, Authorizer whether they may, and Rules, for
	// `kubectl auth can-i --list`, what else they may (nil: not served).
	// Audiences are those that a token must be meant for.
	Authenticator authenticator.Request
	Audiences     authenticator.Audiences
	Authorizer    authorizer.Authorizer
	Rules         authorizer.RuleResolver

	// Admission may refuse a write that the Authorizer lets through: one that
	// gives rights which its writer does not have. Nil: none.
	Admission admission.Interface

	// Audit takes a record of each request that AuditPolicy wants. Nil: none.
	Audit       audit.Backend
	AuditPolicy audit.PolicyRuleEvaluator

	// Kubelet says how to reach the server of a node's agent: its address, and
	// what carries requests there. Nil: logs, exec and the like are refused.
	Kubelet func(ctx context.Context, node string) (*url.URL, http.RoundTripper, error)

	// Token issues a token for a service account. Nil: serviceaccounts/token is
	// not served. The request has been defaulted; its status is what is returned.
	Token func(ctx context.Context, account *corev1.ServiceAccount, request *authenticationv1.TokenRequest) (authenticationv1.TokenRequestStatus, error)

	// Issuer is what others verify those tokens by. Nil: not served.
	Issuer serviceaccount.OpenIDMetadataProvider

	// Owned returns, for a write that makes new out of old, a sentence for each
	// thing that a source in git owns and will put back; nil objects are those
	// that are not there before, or after. DenyOwned refuses such writes, which
	// are otherwise warned of. Nil: nothing is owned.
	Owned     func(old, new schema.Object) []string
	DenyOwned bool

	// Version is what stands behind "+evenkeel" in /version; default "".
	Version string
	Logger  *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Registries == nil:
		return errors.New("api server: Registries is missing")
	case c.Authenticator == nil:
		return errors.New("api server: Authenticator is missing")
	case c.Authorizer == nil:
		return errors.New("api server: Authorizer is missing")
	case len(c.Listeners) > 0 && c.Certificate == nil:
		return errors.New("api server: Certificate is missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
