package roles

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/evenkeel/evenkeel/schema"
)

// Gather returns the rules of all roles that a role is made of, by name, each
// rule once.
func Gather(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) []rbacv1.PolicyRule {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			continue // validation lets none in
		}
		for _, other := range sorted {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range ownRules(other, all, map[string]bool{role.Name: true}) {
				if !slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules
}

// ownRules are the rules of a role, gathered anew where it is made of others
// itself, so that one pass is enough. above are the roles on the way here: who
// is made of himself ends there.
func ownRules(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole, above map[string]bool) []rbacv1.PolicyRule {
	if role.AggregationRule == nil || above[role.Name] {
		return role.Rules
	}
	above[role.Name] = true
	defer delete(above, role.Name)
	return Gather(role, slices.DeleteFunc(slices.Clone(all), func(r *rbacv1.ClusterRole) bool { return above[r.Name] && r.Name != role.Name }))
}

// complete is a role with the rules, labels and annotations that it lacks; nil
// if there are none, or if it is not ours to complete.
func complete(have, want *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	if !mayComplete(have) {
		return nil
	}
	changed := have.DeepCopy()
	if want.AggregationRule == nil {
		_, missing := validation.Covers(have.Rules, want.Rules)
		changed.Rules = append(changed.Rules, missing...)
	}
	addMissing(changed, want)
	if equality.Semantic.DeepEqual(changed, have) {
		return nil
	}
	return changed
}

func completeBinding(have, want *rbacv1.ClusterRoleBinding) *rbacv1.ClusterRoleBinding {
	if !mayComplete(have) || have.RoleRef != want.RoleRef {
		return nil
	}
	changed := have.DeepCopy()
	for _, subject := range want.Subjects {
		if !slices.Contains(changed.Subjects, subject) {
			changed.Subjects = append(changed.Subjects, subject)
		}
	}
	addMissing(changed, want)
	if equality.Semantic.DeepEqual(changed, have) {
		return nil
	}
	return changed
}

func mayComplete(obj schema.Object) bool {
	annotations := obj.GetAnnotations()
	return annotations[rbacv1.AutoUpdateAnnotationKey] == "true" && annotations[schema.SourceAnnotation] == ""
}

// addMissing adds labels and annotations that are not there at all.
func addMissing(to, from schema.Object) {
	merge := func(have, want map[string]string) map[string]string {
		for name, value := range want {
			if _, there := have[name]; !there {
				if have == nil {
					have = map[string]string{}
				}
				have[name] = value
			}
		}
		return have
	}
	to.SetLabels(merge(to.GetLabels(), from.GetLabels()))
	to.SetAnnotations(merge(to.GetAnnotations(), from.GetAnnotations()))
}
