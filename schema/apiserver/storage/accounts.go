package storage

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
)

// Issue issues a token for a service account.
type Issue func(ctx context.Context, account *corev1.ServiceAccount, request *authenticationv1.TokenRequest) (authenticationv1.TokenRequestStatus, error)

// tokens is serviceaccounts/token: `kubectl create token`.
type tokens struct {
	accounts *objects
	issue    Issue
}

var (
	_ rest.NamedCreater             = tokens{}
	_ rest.GroupVersionKindProvider = tokens{}
)

// NewTokens returns the storage of serviceaccounts/token; accounts is that of
// New for service accounts.
func NewTokens(accounts rest.Storage, issue Issue) rest.Storage {
	return tokens{accounts.(collection).objects, issue}
}

// tokenSeconds is how long a token is good for of which nobody says, as in
// Kubernetes.
const tokenSeconds = 3600

// New implements rest.Storage.
func (t tokens) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy implements rest.Storage.
func (t tokens) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (t tokens) GroupVersionKind(kschema.GroupVersion) kschema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create implements rest.NamedCreater.
func (t tokens) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, opts *metav1.CreateOptions) (runtime.Object, error) {
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	key := t.accounts.key(ctx, name)
	account, err := t.accounts.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if req.Name == "" {
		req.Name = name
	}
	if req.Namespace == "" {
		req.Namespace = key.Namespace
	}
	if req.Name != name || req.Namespace != key.Namespace {
		return nil, apierrors.NewBadRequest("name and namespace of the TokenRequest do not match those of the URL")
	}
	if req.Spec.ExpirationSeconds == nil {
		seconds := int64(tokenSeconds)
		req.Spec.ExpirationSeconds = &seconds
	}
	if validate != nil {
		if err := validate(ctx, req.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	req.CreationTimestamp = metav1.Now()
	if len(opts.DryRun) > 0 {
		return req, nil
	}
	if req.Status, err = t.issue(ctx, account.(*corev1.ServiceAccount), req); err != nil {
		return nil, failure.Of(err, key)
	}
	return req, nil
}
