package roles_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/roles"
	"github.com/evenkeel/evenkeel/schema"
)

func rule(resource string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}
}

func role(name, label string, gathers string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}}, Rules: rules}
	if label != "" {
		r.Labels["to-"+label] = "true"
	}
	if gathers != "" {
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"to-" + gathers: "true"}}}}
	}
	return r
}

func TestGather(t *testing.T) {
	admin := role("admin", "", "admin")
	all := []*rbacv1.ClusterRole{
		admin, role("edit", "admin", "edit"), role("view", "edit", "view"),
		role("z-view", "view", "", rule("pods")), role("a-view", "view", "", rule("services"), rule("pods")),
		role("x-admin", "admin", "", rule("roles"), rule("pods")), role("stranger", "", "", rule("secrets")),
		role("loop", "admin", "admin"),
	}
	var got []string
	for _, r := range roles.Gather(admin, all) {
		got = append(got, r.Resources...)
	}
	if diff := cmp.Diff([]string{"services", "pods", "roles"}, got); diff != "" {
		t.Errorf("gathered (-want +got):\n%s", diff)
	}
}

func resources(w *controllertest.World, name string) []string {
	w.T.Helper()
	r, ok := w.Get(schema.ClusterRoles.Key("", name)).(*rbacv1.ClusterRole)
	if !ok {
		return nil
	}
	out := []string{}
	for _, rule := range r.Rules {
		out = append(out, rule.Resources...)
	}
	return out
}

func want(w *controllertest.World, what, name string, want ...string) {
	w.T.Helper()
	if diff := cmp.Diff(want, resources(w, name)); diff != "" {
		w.T.Errorf("%s: %s (-want +got):\n%s", what, name, diff)
	}
}

func start(w *controllertest.World) context.CancelFunc {
	ctx, cancel := context.WithCancel(w.T.Context())
	done := make(chan struct{})
	w.Start(func(outer context.Context) error {
		defer close(done)
		stop := context.AfterFunc(outer, cancel)
		defer stop()
		return roles.Run(ctx, roles.Config{
			Writer: w.Writer, Logger: w.Logger,
			Roles: []*rbacv1.ClusterRole{role("view", "", "view"), role("base", "view", "", rule("pods")), role("fixed", "", "", rule("pods")), role("git", "", "", rule("pods"))},
			Bindings: []*rbacv1.ClusterRoleBinding{{
				ObjectMeta: metav1.ObjectMeta{Name: "all", Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
				Subjects:   []rbacv1.Subject{{Kind: "Group", APIGroup: rbacv1.GroupName, Name: "dev"}},
			}},
		})
	})
	return func() { cancel(); <-done }
}

func TestRoles(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		mine := role("git", "", "", rule("mine"))
		mine.Annotations[schema.SourceAnnotation] = "ops"
		w.Create(mine)
		before := w.Revision()
		stop := start(w)
		if after := w.Revision(); after != before+1 {
			t.Errorf("the beginning took %d transactions", after-before)
		}
		want(w, "at first", "view", "pods")
		want(w, "declared by a source", "git", "mine")

		w.Create(role("more", "view", "", rule("secrets")))
		want(w, "one more", "view", "pods", "secrets")
		w.Delete(schema.ClusterRoles.Key("", "more"), nil)
		want(w, "one less", "view", "pods")

		w.Change(schema.ClusterRoles.Key("", "base"), func(obj schema.Object) { obj.(*rbacv1.ClusterRole).Rules = []rbacv1.PolicyRule{rule("nodes")} })
		w.Change(schema.ClusterRoles.Key("", "fixed"), func(obj schema.Object) {
			obj.(*rbacv1.ClusterRole).Rules = nil
			obj.SetAnnotations(map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"})
		})
		w.Change(schema.ClusterRoleBindings.Key("", "all"), func(obj schema.Object) { obj.(*rbacv1.ClusterRoleBinding).Subjects = nil })
		want(w, "changed by hand", "base", "nodes")
		want(w, "changed by hand", "view", "nodes")

		stop()
		before = w.Revision()
		start(w)
		want(w, "another term", "base", "nodes", "pods")
		want(w, "another term", "view", "nodes", "pods")
		want(w, "not to be updated", "fixed", []string{}...)
		if b := w.Get(schema.ClusterRoleBindings.Key("", "all")).(*rbacv1.ClusterRoleBinding); len(b.Subjects) != 1 {
			t.Errorf("subjects %v", b.Subjects)
		}
		if after := w.Revision(); after != before+2 {
			t.Errorf("another term took %d transactions", after-before)
		}
	})
}
