package access

import (
	"context"
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	rbacapi "k8s.io/kubernetes/pkg/apis/rbac"
	"k8s.io/kubernetes/pkg/registry/rbac"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"

	"github.com/evenkeel/evenkeel/schema"
)

// Guard keeps people from giving rights that they do not have: whoever writes a
// role has all that is in it, or may `escalate` it; whoever writes a binding
// has all that its role gives, or may `bind` it. Kubernetes: "Privilege
// escalation prevention and bootstrapping". It is an admission plugin, and
// wants the caller and the request in the context.
type Guard struct {
	authorizer authorizer.Authorizer
	rules      validation.AuthorizationRuleResolver
}

var _ admission.ValidationInterface = (*Guard)(nil)

// Handles reports whether the operation can write a role.
func (g *Guard) Handles(operation admission.Operation) bool {
	return operation == admission.Create || operation == admission.Update
}

// Validate refuses a role or binding that gives more than its writer has.
func (g *Guard) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().Group != rbacv1.GroupName || a.GetSubresource() != "" {
		return nil
	}
	return g.Check(request.WithNamespace(ctx, a.GetNamespace()), a.GetObject(), a.GetOldObject())
}

// Check is Validate for an object of the versioned types; old is nil for a new
// one.
func (g *Guard) Check(ctx context.Context, obj, old runtime.Object) error {
	if rbac.EscalationAllowed(ctx) {
		return nil
	}
	if old != nil && rbac.IsOnlyMutatingGCFields(obj, old, equality.Semantic) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		return g.role(ctx, schema.Roles, o.Name, o.Rules, false)
	case *rbacv1.ClusterRole:
		before, _ := old.(*rbacv1.ClusterRole)
		return g.role(ctx, schema.ClusterRoles, o.Name, o.Rules, gathers(o) || gathers(before))
	case *rbacv1.RoleBinding:
		return g.binding(ctx, schema.RoleBindings, o.Name, o.RoleRef, request.NamespaceValue(ctx))
	case *rbacv1.ClusterRoleBinding:
		return g.binding(ctx, schema.ClusterRoleBindings, o.Name, o.RoleRef, "")
	}
	return nil
}

func gathers(role *rbacv1.ClusterRole) bool {
	return role != nil && role.AggregationRule != nil && len(role.AggregationRule.ClusterRoleSelectors) > 0
}

var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (g *Guard) role(ctx context.Context, kind *schema.Kind, name string, rules []rbacv1.PolicyRule, gathers bool) error {
	if rbac.RoleEscalationAuthorized(ctx, g.authorizer) {
		return nil
	}
	if err := validation.ConfirmNoEscalation(ctx, g.rules, rules); err != nil {
		return forbidden(kind, name, err)
	}
	if gathers && validation.ConfirmNoEscalation(ctx, g.rules, everything) != nil {
		return forbidden(kind, name, errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func (g *Guard) binding(ctx context.Context, kind *schema.Kind, name string, ref rbacv1.RoleRef, namespace string) error {
	if rbac.BindingAuthorized(ctx, rbacapi.RoleRef(ref), namespace, g.authorizer) {
		return nil
	}
	rules, err := g.rules.GetRoleReferenceRules(ctx, ref, namespace)
	if err != nil {
		return err
	}
	if err := validation.ConfirmNoEscalation(ctx, g.rules, rules); err != nil {
		return forbidden(kind, name, err)
	}
	return nil
}

func forbidden(kind *schema.Kind, name string, err error) error {
	return apierrors.NewForbidden(kind.GVK.GroupVersion().WithResource(kind.Resource).GroupResource(), name, err)
}
