package access

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationapi "k8s.io/kubernetes/pkg/apis/authentication"
	authenticationapiv1 "k8s.io/kubernetes/pkg/apis/authentication/v1"
	"k8s.io/kubernetes/pkg/apis/authentication/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
)

// Issuer is who issues the tokens of service accounts, and the audience of
// those that are for the API itself.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// Audiences are those that a token has to be for at the API.
var Audiences = authenticator.Audiences{Issuer}

// Tokens issues tokens of service accounts.
type Tokens struct {
	generator serviceaccount.TokenGenerator
	read      func(context.Context, schema.Key) (schema.Object, error)
}

// NewTokens returns tokens that the authority's key signs. read gets an object
// from the store.
func NewTokens(authority *pki.Authority, read func(context.Context, schema.Key) (schema.Object, error)) (*Tokens, error) {
	generator, err := serviceaccount.JWTTokenGenerator(Issuer, authority.TokenKeys()[0])
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return &Tokens{generator: generator, read: read}, nil
}

// bound are the objects with whose end a token ends.
type bound struct {
	pod    *corev1.Pod
	secret *corev1.Secret
	node   *corev1.Node // where the pod runs, or what the token is bound to
}

// ForPod issues a token of a pod's service account that is good for as long as
// the pod is there, seconds at most. Audience "" is the API.
func (t *Tokens) ForPod(ctx context.Context, account *corev1.ServiceAccount, pod *corev1.Pod, node *corev1.Node, audience string, seconds int64) (string, error) {
	if audience == "" {
		audience = Issuer
	}
	return t.issue(ctx, account, bound{pod: pod, node: node}, []string{audience}, seconds)
}

func (t *Tokens) issue(ctx context.Context, account *corev1.ServiceAccount, to bound, audiences []string, seconds int64) (string, error) {
	public, private, err := serviceaccount.Claims(core.ServiceAccount{ObjectMeta: account.ObjectMeta},
		internalPod(to.pod), internalSecret(to.secret), internalNode(to.node), nil, nil, seconds, 0, audiences, nil)
	if err != nil {
		return "", fmt.Errorf("token of %s: %w", schema.KeyOf(account), err)
	}
	token, err := t.generator.GenerateToken(ctx, public, private)
	if err != nil {
		return "", fmt.Errorf("token of %s: %w", schema.KeyOf(account), err)
	}
	return token, nil
}

// Of a bound object a token says only the name and UID.

func internalPod(pod *corev1.Pod) *core.Pod {
	if pod == nil {
		return nil
	}
	return &core.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID}}
}

func internalSecret(secret *corev1.Secret) *core.Secret {
	if secret == nil {
		return nil
	}
	return &core.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret.Name, UID: secret.UID}}
}

func internalNode(node *corev1.Node) *core.Node {
	if node == nil {
		return nil
	}
	return &core.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID}}
}

// Request answers a TokenRequest of the API for a service account. Errors are
// those of k8s.io/apimachinery/pkg/api/errors.
func (t *Tokens) Request(ctx context.Context, account *corev1.ServiceAccount, req *authenticationv1.TokenRequest) (authenticationv1.TokenRequestStatus, error) {
	now := time.Now()
	var none authenticationv1.TokenRequestStatus
	asked, err := complete(account, req, now)
	if err != nil {
		return none, err
	}
	to, err := t.bind(ctx, account, asked.Spec.BoundObjectRef)
	if err != nil {
		return none, err
	}
	token, err := t.issue(ctx, account, to, asked.Spec.Audiences, *asked.Spec.ExpirationSeconds)
	if err != nil {
		return none, apierrors.NewInternalError(err)
	}
	return authenticationv1.TokenRequestStatus{
		Token:               token,
		ExpirationTimestamp: metav1.NewTime(now.Add(time.Duration(*asked.Spec.ExpirationSeconds) * time.Second)),
	}, nil
}

var requestGVK = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// complete fills in what a request leaves out and judges it.
func complete(account *corev1.ServiceAccount, req *authenticationv1.TokenRequest, now time.Time) (*authenticationv1.TokenRequest, error) {
	if req.Name != "" && req.Name != account.Name || req.Namespace != "" && req.Namespace != account.Namespace {
		return nil, apierrors.NewBadRequest("the name and namespace of the request must be those of the service account")
	}
	if req.UID != "" && req.UID != account.UID {
		return nil, uidConflict("serviceaccounts", account.Name, req.UID, account.UID)
	}
	out := req.DeepCopy()
	out.Name, out.Namespace, out.UID = account.Name, account.Namespace, account.UID
	out.CreationTimestamp = metav1.NewTime(now)
	out.Status = authenticationv1.TokenRequestStatus{}
	authenticationapiv1.SetDefaults_TokenRequestSpec(&out.Spec)
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = []string{Issuer}
	}
	internal := &authenticationapi.TokenRequest{}
	if err := authenticationapiv1.Convert_v1_TokenRequest_To_authentication_TokenRequest(out, internal, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidateTokenRequest(internal); len(errs) > 0 {
		return nil, apierrors.NewInvalid(requestGVK.GroupKind(), "", errs)
	}
	return out, nil
}

func uidConflict(resource, name string, asked, is types.UID) error {
	kind, _ := schema.KindOfResource(resource)
	return apierrors.NewConflict(kind.GVK.GroupVersion().WithResource(resource).GroupResource(), name,
		fmt.Errorf("the UID in the request (%s) is not that of the object (%s)", asked, is))
}

// bind reads the object that a token is to be bound to.
func (t *Tokens) bind(ctx context.Context, account *corev1.ServiceAccount, ref *authenticationv1.BoundObjectReference) (bound, error) {
	var to bound
	if ref == nil {
		return to, nil
	}
	kinds := map[string]*schema.Kind{"Pod": schema.Pods, "Secret": schema.Secrets, "Node": schema.Nodes}
	kind := kinds[ref.Kind]
	if kind == nil || ref.APIVersion != "v1" {
		return to, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s, Kind=%s", ref.APIVersion, ref.Kind))
	}
	obj, err := t.read(ctx, kind.Key(account.Namespace, ref.Name))
	if err != nil {
		return to, err
	}
	if ref.UID != "" && ref.UID != obj.GetUID() {
		return to, uidConflict(kind.Resource, ref.Name, ref.UID, obj.GetUID())
	}
	switch o := obj.(type) {
	case *corev1.Secret:
		to.secret = o
	case *corev1.Node:
		to.node = o
	case *corev1.Pod:
		if o.Spec.ServiceAccountName != account.Name {
			return to, apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", account.Name))
		}
		to.pod = o
		if o.Spec.NodeName != "" {
			return to, t.onNode(ctx, &to, o.Spec.NodeName)
		}
	}
	return to, nil
}

// onNode adds the node that a pod runs on; of one that is gone the name.
func (t *Tokens) onNode(ctx context.Context, to *bound, name string) error {
	obj, err := t.read(ctx, schema.Nodes.Key("", name))
	switch {
	case apierrors.IsNotFound(err):
		to.node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	case err != nil:
		return err
	default:
		to.node = obj.(*corev1.Node)
	}
	return nil
}
