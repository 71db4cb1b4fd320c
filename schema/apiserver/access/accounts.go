package access

import (
	"context"
	"errors"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
)

// publicKeys are those of the authority's keys for tokens.
func publicKeys(authority *pki.Authority) (serviceaccount.PublicKeysGetter, error) {
	var keys []any
	for _, key := range authority.TokenKeys() {
		keys = append(keys, key)
	}
	return serviceaccount.StaticPublicKeysGetter(keys)
}

// tokenAuthenticator takes the tokens that the authority's keys signed, for as long
// as their accounts, and what they are bound to, are there.
func tokenAuthenticator(cfg Config, keys serviceaccount.PublicKeysGetter) authenticator.Token {
	return serviceaccount.JWTTokenAuthenticator([]string{Issuer}, keys, Audiences,
		serviceaccount.NewValidator(accounts{objects: cfg.Objects, read: cfg.Read}))
}

// accounts finds what a token speaks of; what Objects does not know is looked
// for in the store. It is a serviceaccount.ServiceAccountTokenGetter.
type accounts struct {
	objects Objects
	read    func(context.Context, schema.Key) (schema.Object, error)
}

func find[T schema.Object](ctx context.Context, a accounts, kind *schema.Kind, namespace, name string) (T, error) {
	key := kind.Key(namespace, name)
	if obj, ok := a.objects.Get(key).(T); ok {
		return obj, nil
	}
	obj, err := a.read(ctx, key)
	if err != nil {
		var none T
		return none, err
	}
	return obj.(T), nil
}

func (a accounts) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return find[*corev1.ServiceAccount](ctx, a, schema.ServiceAccounts, namespace, name)
}

func (a accounts) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return find[*corev1.Pod](ctx, a, schema.Pods, namespace, name)
}

func (a accounts) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return find[*corev1.Secret](ctx, a, schema.Secrets, namespace, name)
}

func (a accounts) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return find[*corev1.Node](ctx, a, schema.Nodes, "", name)
}

var errNoWebhooks = errors.New("there are no admission webhooks")

func (accounts) GetValidatingWebhookConfiguration(context.Context, string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return nil, errNoWebhooks
}

func (accounts) GetMutatingWebhookConfiguration(context.Context, string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return nil, errNoWebhooks
}
