package access

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/evenkeel/evenkeel/schema"
)

// roles is Objects as Kubernetes' RBAC wants it.
type roles struct{ objects Objects }

func (r roles) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	return get[*rbacv1.Role](r.objects, schema.Roles, namespace, name)
}

func (r roles) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	return get[*rbacv1.ClusterRole](r.objects, schema.ClusterRoles, "", name)
}

func (r roles) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	return list[*rbacv1.RoleBinding](r.objects, schema.RoleBindings, namespace), nil
}

func (r roles) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return list[*rbacv1.ClusterRoleBinding](r.objects, schema.ClusterRoleBindings, ""), nil
}

func get[T schema.Object](objects Objects, kind *schema.Kind, namespace, name string) (T, error) {
	obj, ok := objects.Get(kind.Key(namespace, name)).(T)
	if !ok {
		return obj, apierrors.NewNotFound(kind.GVK.GroupVersion().WithResource(kind.Resource).GroupResource(), name)
	}
	return obj, nil
}

func list[T schema.Object](objects Objects, kind *schema.Kind, namespace string) []T {
	all := objects.List(kind, namespace)
	out := make([]T, 0, len(all))
	for _, obj := range all {
		out = append(out, obj.(T))
	}
	return out
}
