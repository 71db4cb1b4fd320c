// Package reviews answers who somebody is and what they may do:
// authentication.k8s.io and authorization.k8s.io, as `kubectl auth` asks.
//
// schema/apiserver installs its storage. It stores nothing, and leaves every
// decision to the server's own authenticator and authorizer.
package reviews

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Config is whom to ask.
type Config struct {
	Authenticator authenticator.Request
	Audiences     authenticator.Audiences
	Authorizer    authorizer.UnconditionalAuthorizer
	Rules         authorizer.RuleResolver // nil: selfsubjectrulesreviews are not served
}

// review is a resource of which objects are only created, and answered.
type review[T runtime.Object] struct {
	singular   string
	namespaced bool
	empty      func() T
	answer     func(ctx context.Context, asked T) error // fills in the status
}

var _ rest.Creater = review[*authenticationv1.TokenReview]{}

// New implements rest.Storage.
func (r review[T]) New() runtime.Object { return r.empty() }

// Destroy implements rest.Storage.
func (r review[T]) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r review[T]) NamespaceScoped() bool { return r.namespaced }

// GetSingularName implements rest.SingularNameProvider.
func (r review[T]) GetSingularName() string { return r.singular }

// Create implements rest.Creater.
func (r review[T]) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	asked, ok := obj.(T)
	if !ok {
		return nil, apierrors.NewBadRequest("not a " + r.singular)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.answer(ctx, asked); err != nil {
		return nil, err
	}
	return asked, nil
}

// New returns the storage of all reviews, by group version and resource.
func New(cfg Config) map[kschema.GroupVersion]map[string]rest.Storage {
	authorization := map[string]rest.Storage{
		"subjectaccessreviews": review[*authorizationv1.SubjectAccessReview]{
			"subjectaccessreview", false, func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} }, cfg.subject,
		},
		"localsubjectaccessreviews": review[*authorizationv1.LocalSubjectAccessReview]{
			"localsubjectaccessreview", true, func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} }, cfg.local,
		},
		"selfsubjectaccessreviews": review[*authorizationv1.SelfSubjectAccessReview]{
			"selfsubjectaccessreview", false, func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} }, cfg.self,
		},
	}
	if cfg.Rules != nil {
		authorization["selfsubjectrulesreviews"] = review[*authorizationv1.SelfSubjectRulesReview]{
			"selfsubjectrulesreview", false, func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} }, cfg.rules,
		}
	}
	return map[kschema.GroupVersion]map[string]rest.Storage{
		authorizationv1.SchemeGroupVersion: authorization,
		authenticationv1.SchemeGroupVersion: {
			"tokenreviews": review[*authenticationv1.TokenReview]{
				"tokenreview", false, func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} }, cfg.token,
			},
			"selfsubjectreviews": review[*authenticationv1.SelfSubjectReview]{
				"selfsubjectreview", false, func() *authenticationv1.SelfSubjectReview { return &authenticationv1.SelfSubjectReview{} }, whoAmI,
			},
		},
	}
}
