package access_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditapi "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/access"
	"github.com/evenkeel/evenkeel/schema/apiserver/pki"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// objects is a cluster; late is what only the store knows of.
type objects struct{ known, late map[schema.Key]schema.Object }

func (o objects) Get(key schema.Key) schema.Object { return o.known[key] }

func (o objects) List(kind *schema.Kind, namespace string) []schema.Object {
	var out []schema.Object
	for key, obj := range o.known {
		if key.Resource == kind.Resource && (namespace == "" || key.Namespace == namespace) {
			out = append(out, obj)
		}
	}
	return out
}

func (o objects) read(_ context.Context, key schema.Key) (schema.Object, error) {
	if obj := o.known[key]; obj != nil {
		return obj, nil
	}
	if obj := o.late[key]; obj != nil {
		return obj, nil
	}
	kind, _ := schema.KindOfResource(key.Resource)
	return nil, apierrors.NewNotFound(kind.GVK.GroupVersion().WithResource(key.Resource).GroupResource(), key.Name)
}

func (o objects) put(all ...schema.Object) {
	for _, obj := range all {
		o.known[schema.KeyOf(obj)] = obj
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name)}
}

func world(t *testing.T) (objects, *pki.Authority, *access.Access) {
	t.Helper()
	o := objects{map[schema.Key]schema.Object{}, map[schema.Key]schema.Object{}}
	roles, bindings := access.Bootstrap()
	for _, r := range roles {
		o.put(r)
	}
	for _, b := range bindings {
		o.put(b)
	}
	o.put(
		&corev1.ServiceAccount{ObjectMeta: meta("shop", "robot")},
		&corev1.Pod{ObjectMeta: meta("shop", "web"), Spec: corev1.PodSpec{ServiceAccountName: "robot", NodeName: "n1"}},
		&corev1.Secret{ObjectMeta: meta("shop", "key")},
		&corev1.Node{ObjectMeta: meta("", "n1")},
		&rbacv1.RoleBinding{
			ObjectMeta: meta("shop", "viewers"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-view"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "shop", Name: "robot"}, {Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
		},
		&rbacv1.RoleBinding{
			ObjectMeta: meta("shop", "editors"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-edit"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "bob"}},
		},
	)
	authority, err := pki.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := access.New(access.Config{Authority: authority, Objects: o, Read: o.read})
	if err != nil {
		t.Fatal(err)
	}
	return o, authority, a
}

// who is the name and groups that a request is taken for; "" if it is refused.
func who(a *access.Access, req *http.Request) string {
	response, ok, err := a.Authenticator.AuthenticateRequest(req)
	if err != nil || !ok {
		return ""
	}
	return response.User.GetName() + " " + strings.Join(response.User.GetGroups(), ",")
}

func get(t *testing.T, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestAnonymous(t *testing.T) {
	_, _, a := world(t)
	for path, want := range map[string]string{
		"/healthz": "system:anonymous system:unauthenticated", "/livez": "system:anonymous system:unauthenticated",
		"/readyz": "system:anonymous system:unauthenticated", "/version": "system:anonymous system:unauthenticated",
		"/api": "", "/api/v1/pods": "", "/metrics": "", "/healthz/../api": "", "/openapi/v2": "",
	} {
		if got := who(a, get(t, path)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	garbage := get(t, "/healthz")
	garbage.Header.Set("Authorization", "Bearer garbage")
	if got := who(a, garbage); got != "" {
		t.Errorf("a broken token on a public path: %q", got)
	}
}

func TestCertificates(t *testing.T) {
	_, authority, a := world(t)
	other, err := pki.Open(t.Context(), memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	alice := pki.Subject{Name: "alice", Groups: []string{"dev", "ops"}}
	for _, c := range []struct {
		name      string
		authority *pki.Authority
		subject   pki.Subject
		life      time.Duration
		want      string
	}{
		{"admin", authority, pki.Admin, time.Hour, "kubernetes-admin system:masters,system:authenticated"},
		{"groups", authority, alice, time.Hour, "alice dev,ops,system:authenticated"},
		{"of another cluster", other, alice, time.Hour, ""},
		{"over", authority, alice, -time.Minute, ""},
		{"of a server", authority, pki.Subject{Name: "alice", DNSNames: []string{"alice"}}, time.Hour, ""},
	} {
		pair, err := c.authority.Issue(c.subject, c.life)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(pair.Certificate)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		req := get(t, "/api")
		req.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		if got := who(a, req); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

const robot = "system:serviceaccount:shop:robot system:serviceaccounts,system:serviceaccounts:shop,system:authenticated"

func request1(spec authenticationv1.TokenRequestSpec) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: spec}
}

func boundTo(kind, name string, uid types.UID) *authenticationv1.BoundObjectReference {
	return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}
}

// TestTokens asks for tokens and takes away what they depend on.
func TestTokens(t *testing.T) {
	for _, c := range []struct {
		name string
		spec authenticationv1.TokenRequestSpec
		end  func(objects)
		want string
	}{
		{name: "of an account", want: robot},
		{name: "for another audience", spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}}},
		{name: "for the API among others", spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault", access.Issuer}}, want: robot},
		{name: "account gone", end: func(o objects) { delete(o.known, schema.ServiceAccounts.Key("shop", "robot")) }},
		{name: "account made anew", end: func(o objects) {
			o.put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "robot", UID: "other"}})
		}},
		{name: "of a pod", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "web", "uid-of-web")}, want: robot},
		{
			name: "pod gone", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "web", "")},
			end: func(o objects) { delete(o.known, schema.Pods.Key("shop", "web")) },
		},
		{
			name: "pod made anew", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "web", "")},
			end: func(o objects) {
				o.put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "other"}})
			},
		},
		{
			name: "pod not seen yet", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "web", "")}, want: robot,
			end: func(o objects) {
				key := schema.Pods.Key("shop", "web")
				o.late[key] = o.known[key]
				delete(o.known, key)
			},
		},
		{name: "of a secret", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Secret", "key", "")}, want: robot},
		{
			name: "secret gone", spec: authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Secret", "key", "")},
			end: func(o objects) { delete(o.known, schema.Secrets.Key("shop", "key")) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _, a := world(t)
			account := o.known[schema.ServiceAccounts.Key("shop", "robot")].(*corev1.ServiceAccount)
			answer, err := a.Tokens.Request(t.Context(), account, request1(c.spec))
			if err != nil {
				t.Fatal(err)
			}
			if c.end != nil {
				c.end(o)
			}
			req := get(t, "/api")
			req.Header.Set("Authorization", "Bearer "+answer.Token)
			if got := who(a, req); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestTokenOfPod(t *testing.T) {
	o, _, a := world(t)
	account := o.known[schema.ServiceAccounts.Key("shop", "robot")].(*corev1.ServiceAccount)
	pod := o.known[schema.Pods.Key("shop", "web")].(*corev1.Pod)
	node := o.known[schema.Nodes.Key("", "n1")].(*corev1.Node)
	token, err := a.Tokens.ForPod(t.Context(), account, pod, node, "", 3607)
	if err != nil {
		t.Fatal(err)
	}
	req := get(t, "/api")
	req.Header.Set("Authorization", "Bearer "+token)
	response, ok, err := a.Authenticator.AuthenticateRequest(req)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	extra := response.User.GetExtra()
	got := slices.Concat(extra["authentication.kubernetes.io/pod-name"], extra["authentication.kubernetes.io/node-name"], []string{response.User.GetUID()})
	if diff := cmp.Diff([]string{"web", "n1", "uid-of-robot"}, got); diff != "" {
		t.Errorf("who it says that it is (-want +got):\n%s", diff)
	}
	if req.Header.Get("Authorization") != "" {
		t.Error("the token goes on into the server")
	}
}

func TestTokenRefused(t *testing.T) {
	o, _, a := world(t)
	account := o.known[schema.ServiceAccounts.Key("shop", "robot")].(*corev1.ServiceAccount)
	seconds := int64(599)
	for _, c := range []struct {
		name string
		req  *authenticationv1.TokenRequest
		is   func(error) bool
	}{
		{"too short", request1(authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}), apierrors.IsInvalid},
		{"no such pod", request1(authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "nothing", "")}), apierrors.IsNotFound},
		{"another UID", request1(authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Pod", "web", "other")}), apierrors.IsConflict},
		{"to a service", request1(authenticationv1.TokenRequestSpec{BoundObjectRef: boundTo("Service", "web", "")}), apierrors.IsBadRequest},
		{"another name", &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, apierrors.IsBadRequest},
		{"another account's UID", &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: "x"}}, apierrors.IsConflict},
	} {
		if _, err := a.Tokens.Request(t.Context(), account, c.req); !c.is(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

var (
	masters = &user.DefaultInfo{Name: "kubernetes-admin", Groups: []string{"system:masters", "system:authenticated"}}
	alice   = &user.DefaultInfo{Name: "alice", Groups: []string{"system:authenticated"}}
	bob     = &user.DefaultInfo{Name: "bob", Groups: []string{"system:authenticated"}}
	nobody  = &user.DefaultInfo{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}
)

func TestAuthorizer(t *testing.T) {
	_, _, a := world(t)
	resource := func(who user.Info, verb, group, resource, namespace string) authorizer.AttributesRecord {
		name, sub, _ := strings.Cut(resource, "/")
		return authorizer.AttributesRecord{User: who, Verb: verb, APIGroup: group, Resource: name, Subresource: sub, Namespace: namespace, ResourceRequest: true}
	}
	path := func(who user.Info, path string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: who, Verb: "get", Path: path}
	}
	for _, c := range []struct {
		name string
		ask  authorizer.AttributesRecord
		want bool
	}{
		{"masters may all", resource(masters, "delete", "", "secrets", "kube-system"), true},
		{"a viewer sees pods", resource(alice, "list", "", "pods", "shop"), true},
		{"and their logs", resource(alice, "get", "", "pods/log", "shop"), true},
		{"not elsewhere", resource(alice, "list", "", "pods", "bank"), false},
		{"nor everywhere", resource(alice, "list", "", "pods", ""), false},
		{"no secrets", resource(alice, "get", "", "secrets", "shop"), false},
		{"no exec", resource(alice, "create", "", "pods/exec", "shop"), false},
		{"no proxy to a pod", resource(alice, "get", "", "pods/proxy", "shop"), false},
		{"nor to a service", resource(alice, "get", "", "services/proxy", "shop"), false},
		{"nor to a node", resource(alice, "get", "", "nodes/proxy", ""), false},
		{"an editor has a proxy to pods", resource(bob, "delete", "", "pods/proxy", "shop"), true},
		{"and one to see them", resource(bob, "get", "", "pods/proxy", "shop"), true},
		{"and to services", resource(bob, "get", "", "services/proxy", "shop"), true},
		{"none to nodes", resource(bob, "get", "", "nodes/proxy", ""), false},
		{"nothing to change", resource(alice, "delete", "", "pods", "shop"), false},
		{"what may I", resource(alice, "create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), true},
		{"discovery", path(alice, "/apis/rbac.authorization.k8s.io"), true},
		{"health for all", path(nobody, "/healthz"), true},
		{"no discovery for all", path(nobody, "/api"), false},
		{"no metrics", path(alice, "/metrics"), false},
	} {
		decision, why, err := a.Authorizer.Authorize(t.Context(), c.ask)
		if err != nil || (decision == authorizer.DecisionAllow) != c.want {
			t.Errorf("%s: %v %s %v", c.name, decision, why, err)
		}
	}
}

// as is the context of a request for a kind of the RBAC group.
func as(t *testing.T, who user.Info, namespace, resource string) context.Context {
	ctx := request.WithNamespace(request.WithUser(t.Context(), who), namespace)
	return request.WithRequestInfo(ctx, &request.RequestInfo{IsResourceRequest: true, Verb: "create", APIGroup: rbacv1.GroupName, APIVersion: "v1", Resource: resource, Namespace: namespace})
}

func TestGuard(t *testing.T) {
	o, _, a := world(t)
	rule := func(verb, resource string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}}}
	}
	role := func(rules []rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: meta("shop", "r"), Rules: rules}
	}
	binding := func(role string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: meta("shop", "b"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}}
	}
	// binder may bind the role edit, and nothing else.
	binder := &user.DefaultInfo{Name: "binder", Groups: []string{"system:authenticated"}}
	o.put(
		&rbacv1.ClusterRole{ObjectMeta: meta("", "bind-admin"), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"bind"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, ResourceNames: []string{"cluster-admin"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta("shop", "binder"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "bind-admin"},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "binder"}},
		},
	)
	released := role(rule("delete", "pods"))
	released.Finalizers = []string{"example.org/x"}
	for _, c := range []struct {
		name     string
		who      user.Info
		obj, old schema.Object
		want     string
	}{
		{"masters may all", masters, role(rule("*", "*")), nil, ""},
		{"what one has", alice, role(rule("get", "pods")), nil, ""},
		{"more than one has", alice, role(rule("delete", "pods")), nil, "not currently held"},
		{"a finalizer of such a role", alice, role(rule("delete", "pods")), released, ""},
		{"a binding of what one has", alice, binding("system:aggregate-to-view"), nil, ""},
		{"a binding of more", alice, binding("cluster-admin"), nil, "not currently held"},
		{"a binding that one may make", binder, binding("cluster-admin"), nil, ""},
		{"a binding that one may not make", binder, binding("system:aggregate-to-edit"), nil, "not currently held"},
		{"a binding of nothing", alice, binding("no-such-role"), nil, "not found"},
		{"a role that gathers", alice, &rbacv1.ClusterRole{ObjectMeta: meta("", "g"), AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}}, nil, "aggregationRule"},
		{"something else", alice, &corev1.Pod{ObjectMeta: meta("shop", "p")}, nil, ""},
	} {
		var err error
		if c.old == nil {
			err = a.Guard.Check(as(t, c.who, "shop", schema.KeyOf(c.obj).Resource), c.obj, nil)
		} else {
			err = a.Guard.Check(as(t, c.who, "shop", schema.KeyOf(c.obj).Resource), c.obj, c.old)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestBootstrap looks that no role names what is not served.
func TestBootstrap(t *testing.T) {
	roles, bindings := access.Bootstrap()
	names := map[string]bool{}
	for _, r := range roles {
		names[r.Name] = true
		for _, rule := range r.Rules {
			for _, resource := range rule.Resources {
				if strings.Contains(resource, "daemonsets") {
					t.Errorf("%s names %s", r.Name, resource)
				}
			}
		}
	}
	for _, want := range []string{"cluster-admin", "admin", "edit", "view", "system:basic-user", "system:discovery", "system:public-info-viewer"} {
		if !names[want] {
			t.Errorf("no role %s", want)
		}
	}
	for _, b := range bindings {
		if !names[b.RoleRef.Name] {
			t.Errorf("%s binds %s, which is not there", b.Name, b.RoleRef.Name)
		}
	}
}

func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	backend, rules, err := access.Audit(path, "")
	if err != nil {
		t.Fatal(err)
	}
	level := func(verb, resource string) auditapi.Level {
		name, sub, _ := strings.Cut(resource, "/")
		return rules.EvaluatePolicyRule(authorizer.AttributesRecord{User: alice, Verb: verb, Resource: name, Subresource: sub, ResourceRequest: true}).Level
	}
	got := []auditapi.Level{level("get", "pods"), level("delete", "pods"), level("get", "secrets"), level("create", "pods/exec"), level("create", "events"), level("get", "nodes/proxy")}
	if diff := cmp.Diff([]auditapi.Level{"None", "Metadata", "Metadata", "Metadata", "None", "Metadata"}, got); diff != "" {
		t.Errorf("levels (-want +got):\n%s", diff)
	}
	backend.ProcessEvents(&auditapi.Event{AuditID: "1", Verb: "delete", Level: auditapi.LevelMetadata})
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), `"auditID":"1"`) {
		t.Errorf("%s, %v", text, err)
	}
	if _, _, err := access.Audit(path, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a policy that is not there")
	}
	if _, _, err := access.Audit(filepath.Join(path, "below"), ""); err == nil {
		t.Error("a log that cannot be written")
	}
}
