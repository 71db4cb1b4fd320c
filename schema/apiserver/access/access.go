package access

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authzunion "k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/pkg/serviceaccount"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
)

// Objects is what of a registry.Mirror is needed. What it returns is shared.
type Objects interface {
	Get(key schema.Key) schema.Object
	List(kind *schema.Kind, namespace string) []schema.Object
}

// Config says whom to trust and where roles and accounts are; all fields are
// required.
type Config struct {
	Authority *pki.Authority
	Objects   Objects
	// Read gets an object from the store itself: a token may be shown before
	// Objects knows of its pod.
	Read func(ctx context.Context, key schema.Key) (schema.Object, error)
}

// Access is who may do what. All of it is safe for use by many at once.
type Access struct {
	// Authenticator takes client certificates and tokens of service accounts.
	// Anonymous is refused but for health and version.
	Authenticator authenticator.Request
	// Authorizer follows roles and their bindings; system:masters may do all.
	Authorizer authorizer.Authorizer
	// Rules lists what somebody may do.
	Rules authorizer.RuleResolver
	// Tokens issues tokens of service accounts.
	Tokens *Tokens
	// Issuer is what others verify these by (OpenID Connect Discovery).
	Issuer serviceaccount.OpenIDMetadataProvider
	// Guard refuses roles and bindings that give more than their writer has.
	Guard *Guard
}

// public are the paths that everybody may read.
var public = []string{"/healthz", "/livez", "/readyz", "/version", "/version/"}

// New returns the access that a config describes.
func New(cfg Config) (*Access, error) {
	tokens, err := NewTokens(cfg.Authority, cfg.Read)
	if err != nil {
		return nil, err
	}
	a := &Access{Tokens: tokens}
	keys, err := publicKeys(cfg.Authority)
	if err != nil {
		return nil, err
	}
	if a.Issuer, err = serviceaccount.NewOpenIDMetadataProvider(Issuer, Issuer+serviceaccount.JWKSPath, "", keys); err != nil {
		return nil, fmt.Errorf("metadata of the tokens' issuer: %w", err)
	}
	if a.Authenticator, err = newAuthenticator(cfg, tokenAuthenticator(cfg, keys)); err != nil {
		return nil, err
	}
	roles := roles{cfg.Objects}
	byRole := rbac.New(roles, roles, roles, roles)
	masters := authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)
	open, err := path.NewAuthorizer(public)
	if err != nil {
		return nil, err
	}
	a.Authorizer, err = authzunion.New(
		authzunion.NamedAuthorizer{AuthorizerName: "masters", Authorizer: masters},
		authzunion.NamedAuthorizer{AuthorizerName: "public", Authorizer: open},
		authzunion.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: byRole},
	)
	if err != nil {
		return nil, fmt.Errorf("authorizers: %w", err)
	}
	a.Rules = byRole
	a.Guard = &Guard{authorizer: a.Authorizer, rules: validation.NewDefaultRuleResolver(roles, roles, roles, roles)}
	return a, nil
}

func newAuthenticator(cfg Config, byToken authenticator.Token) (authenticator.Request, error) {
	ca, err := cfg.Authority.ClientCA()
	if err != nil {
		return nil, err
	}
	var conditions []apiserver.AnonymousAuthCondition
	for _, path := range public {
		conditions = append(conditions, apiserver.AnonymousAuthCondition{Path: path})
	}
	known := union.New(
		newTrusted(x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion)),
		bearertoken.New(byToken),
		websocket.NewProtocolAuthenticator(byToken),
	)
	return union.NewFailOnError(group.NewAuthenticatedGroupAdder(known), anonymous.NewAuthenticator(conditions)), nil
}
