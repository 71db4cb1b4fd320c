package reviews

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/kubernetes/pkg/apis/authorization"
	authorizationinternal "k8s.io/kubernetes/pkg/apis/authorization/v1"
	"k8s.io/kubernetes/pkg/apis/authorization/validation"
	"k8s.io/kubernetes/pkg/registry/authorization/util"
)

// subject answers a SubjectAccessReview.
func (c Config) subject(ctx context.Context, asked *authorizationv1.SubjectAccessReview) error {
	spec, err := internalSpec(&asked.Spec)
	if err != nil {
		return err
	}
	if errs := validation.ValidateSubjectAccessReviewSpec(*spec, field.NewPath("spec")); len(errs) > 0 {
		return invalid("SubjectAccessReview", errs)
	}
	asked.Status = c.decide(ctx, util.AuthorizationAttributesFrom(*spec))
	return nil
}

// local answers a LocalSubjectAccessReview, which may only ask about its own
// namespace.
func (c Config) local(ctx context.Context, asked *authorizationv1.LocalSubjectAccessReview) error {
	spec, err := internalSpec(&asked.Spec)
	if err != nil {
		return err
	}
	review := &authorization.LocalSubjectAccessReview{ObjectMeta: asked.ObjectMeta, Spec: *spec}
	review.ManagedFields = nil
	if errs := validation.ValidateLocalSubjectAccessReview(review); len(errs) > 0 {
		return invalid("LocalSubjectAccessReview", errs)
	}
	namespace := request.NamespaceValue(ctx)
	if namespace == "" {
		return apierrors.NewBadRequest("namespace is required on this type: " + namespace)
	}
	if namespace != asked.Namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %s", namespace))
	}
	asked.Status = c.decide(ctx, util.AuthorizationAttributesFrom(*spec))
	return nil
}

// self answers a SelfSubjectAccessReview: `kubectl auth can-i`.
func (c Config) self(ctx context.Context, asked *authorizationv1.SelfSubjectAccessReview) error {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return apierrors.NewBadRequest("no user present on request")
	}
	var spec authorization.SelfSubjectAccessReviewSpec
	if err := authorizationinternal.Convert_v1_SelfSubjectAccessReviewSpec_To_authorization_SelfSubjectAccessReviewSpec(&asked.Spec, &spec, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidateSelfSubjectAccessReviewSpec(spec, field.NewPath("spec")); len(errs) > 0 {
		return invalid("SelfSubjectAccessReview", errs)
	}
	attributes := authorizer.AttributesRecord{}
	if spec.ResourceAttributes != nil {
		attributes = util.ResourceAttributesFrom(u, *spec.ResourceAttributes)
	} else {
		attributes = util.NonResourceAttributesFrom(u, *spec.NonResourceAttributes)
	}
	asked.Status = c.decide(ctx, attributes)
	return nil
}

// rules answers a SelfSubjectRulesReview: `kubectl auth can-i --list`.
func (c Config) rules(ctx context.Context, asked *authorizationv1.SelfSubjectRulesReview) error {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return apierrors.NewBadRequest("no user present on request")
	}
	if asked.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	resources, others, incomplete, err := c.Rules.RulesFor(ctx, u, asked.Spec.Namespace)
	asked.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}, Incomplete: incomplete,
	}
	for _, r := range resources {
		asked.Status.ResourceRules = append(asked.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: r.GetVerbs(), APIGroups: r.GetAPIGroups(), Resources: r.GetResources(), ResourceNames: r.GetResourceNames(),
		})
	}
	for _, r := range others {
		asked.Status.NonResourceRules = append(asked.Status.NonResourceRules, authorizationv1.NonResourceRule{
			Verbs: r.GetVerbs(), NonResourceURLs: r.GetNonResourceURLs(),
		})
	}
	if err != nil {
		asked.Status.EvaluationError = err.Error()
	}
	return nil
}

func (c Config) decide(ctx context.Context, attributes authorizer.AttributesRecord) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := c.Authorizer.Authorize(ctx, attributes)
	return authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: reason,
		EvaluationError: util.BuildEvaluationError(err, attributes),
	}
}

func internalSpec(spec *authorizationv1.SubjectAccessReviewSpec) (*authorization.SubjectAccessReviewSpec, error) {
	out := &authorization.SubjectAccessReviewSpec{}
	if err := authorizationinternal.Convert_v1_SubjectAccessReviewSpec_To_authorization_SubjectAccessReviewSpec(spec, out, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, nil
}

func invalid(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind(kind).GroupKind(), "", errs)
}
