package validation

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationvalidation "k8s.io/kubernetes/pkg/apis/coordination/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
)

// validateAccess judges what says who may do what: accounts, roles and their
// bindings, and leases. old is nil for a creation; false for other kinds, and
// for objects of different types.
func validateAccess(obj, old runtime.Object) (field.ErrorList, bool) {
	switch o := obj.(type) {
	case *core.ServiceAccount:
		return judge(o, old, corevalidation.ValidateServiceAccount, corevalidation.ValidateServiceAccountUpdate)
	case *rbac.Role:
		return judge(o, old, rbacvalidation.ValidateRole, rbacvalidation.ValidateRoleUpdate)
	case *rbac.RoleBinding:
		return judge(o, old, rbacvalidation.ValidateRoleBinding, rbacvalidation.ValidateRoleBindingUpdate)
	case *rbac.ClusterRoleBinding:
		return judge(o, old, rbacvalidation.ValidateClusterRoleBinding, rbacvalidation.ValidateClusterRoleBindingUpdate)
	case *rbac.ClusterRole:
		return judge(o, old, validateClusterRole, func(o, old *rbac.ClusterRole) field.ErrorList {
			return rbacvalidation.ValidateClusterRoleUpdate(o, old, rbacvalidation.ClusterRoleValidationOptions{})
		})
	case *coordination.Lease:
		return judge(o, old, coordinationvalidation.ValidateLease, coordinationvalidation.ValidateLeaseUpdate)
	}
	return nil, false
}

func validateClusterRole(o *rbac.ClusterRole) field.ErrorList {
	return rbacvalidation.ValidateClusterRole(o, rbacvalidation.ClusterRoleValidationOptions{})
}

// judge calls create where there is no old object, and update otherwise.
func judge[T runtime.Object](obj T, old runtime.Object, create func(T) field.ErrorList, update func(obj, old T) field.ErrorList) (field.ErrorList, bool) {
	if old == nil {
		return create(obj), true
	}
	before, ok := old.(T)
	if !ok {
		return nil, false
	}
	return update(obj, before), true
}
