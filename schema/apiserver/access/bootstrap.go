package access

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"github.com/evenkeel/evenkeel/schema"
)

// known are those of Kubernetes' own cluster roles that mean something here;
// the others are of its components.
var known = map[string]bool{
	"cluster-admin": true, "admin": true, "edit": true, "view": true,
	"system:aggregate-to-admin": true, "system:aggregate-to-edit": true, "system:aggregate-to-view": true,
	"system:basic-user": true, "system:discovery": true, "system:public-info-viewer": true,
	"system:monitoring": true, "system:auth-delegator": true, "system:kubelet-api-admin": true, "system:service-account-issuer-discovery": true,
}

// beside are the resources that the API serves beside the kinds' own and their
// subresources, by API group.
var beside = map[string][]string{
	"":                      {"bindings"},
	"authentication.k8s.io": {"tokenreviews", "selfsubjectreviews"},
	"authorization.k8s.io":  {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews", "localsubjectaccessreviews"},
	"events.k8s.io":         {"events"},
	"metrics.k8s.io":        {"nodes", "pods"},
}

// Bootstrap returns the cluster roles and their bindings that every cluster
// has: Kubernetes' own, without what is not served here.
func Bootstrap() (roles []*rbacv1.ClusterRole, bindings []*rbacv1.ClusterRoleBinding) {
	for _, role := range bootstrappolicy.ClusterRoles() {
		if known[role.Name] {
			role.Rules = served(role.Rules)
			roles = append(roles, &role)
		}
	}
	for _, binding := range bootstrappolicy.ClusterRoleBindings() {
		if known[binding.RoleRef.Name] {
			bindings = append(bindings, &binding)
		}
	}
	return append(roles, metricsReader()), bindings
}

// metricsReader lets those who view pods see what they use, as metrics-server's
// own role does.
func metricsReader() *rbacv1.ClusterRole {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "system:aggregated-metrics-reader", Labels: map[string]string{}, Annotations: map[string]string{}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"pods", "nodes"}}},
	}
	for _, to := range []string{"admin", "edit", "view"} {
		role.Labels["rbac.authorization.k8s.io/aggregate-to-"+to] = "true"
	}
	for name, value := range bootstrappolicy.Label {
		role.Labels[name] = value
	}
	for name, value := range bootstrappolicy.Annotation {
		role.Annotations[name] = value
	}
	return role
}

// served leaves out resources that are not served, and rules that are then
// about nothing.
func served(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, rule := range rules {
		if len(rule.NonResourceURLs) > 0 {
			out = append(out, rule)
			continue
		}
		for _, group := range rule.APIGroups {
			resources := slices.DeleteFunc(slices.Clone(rule.Resources), func(r string) bool { return !isServed(group, r) })
			if len(resources) > 0 {
				out = append(out, rbacv1.PolicyRule{Verbs: rule.Verbs, APIGroups: []string{group}, Resources: resources, ResourceNames: rule.ResourceNames})
			}
		}
	}
	return out
}

func isServed(group, resource string) bool {
	if group == "*" || resource == "*" {
		return true
	}
	name, _, _ := strings.Cut(resource, "/")
	if slices.Contains(beside[group], name) {
		return true
	}
	kind, ok := schema.KindOfResource(name)
	return ok && kind.GVK.Group == group
}
