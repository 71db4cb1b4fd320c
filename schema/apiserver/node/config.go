package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/feed"
)

// Config says where pods are and how to reach their nodes.
type Config struct {
	// Get reads an object.
	Get func(ctx context.Context, key schema.Key) (schema.Object, error)
	Hub *feed.Hub
	// Kubelet says how to reach the server of a node's agent.
	Kubelet    func(ctx context.Context, node string) (*url.URL, http.RoundTripper, error)
	Authorizer authorizer.UnconditionalAuthorizer
}

// pod reads the pod of that name in the request's namespace.
func (c *Config) pod(ctx context.Context, name string) (*corev1.Pod, error) {
	key := schema.Pods.Key(request.NamespaceValue(ctx), name)
	obj, err := c.Get(ctx, key)
	if err != nil {
		return nil, failure.Of(err, key)
	}
	return obj.(*corev1.Pod), nil
}

// reach says how to reach a node's agent. That it cannot be reached is an
// internal error, as in Kubernetes.
func (c *Config) reach(ctx context.Context, node string) (*url.URL, http.RoundTripper, error) {
	if c.Kubelet == nil {
		return nil, nil, apierrors.NewServiceUnavailable("this server cannot reach the nodes")
	}
	base, transport, err := c.Kubelet(ctx, node)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(fmt.Errorf("reach node %s: %w", node, err))
	}
	return base, transport, nil
}

// mayCreate makes sure that who may only get what is asked for gets no shell,
// which a WebSocket asks for by GET.
func (c *Config) mayCreate(ctx context.Context) error {
	attributes, err := filters.GetAuthorizerAttributes(ctx)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if attributes.GetVerb() == "create" {
		return nil
	}
	record, ok := attributes.(*authorizer.AttributesRecord)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("attributes of a request: %T", attributes))
	}
	asked := *record
	asked.Verb = "create"
	decision, reason, err := c.Authorizer.Authorize(ctx, &asked)
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("authorize: %w", err))
	}
	resource := corev1.Resource(asked.Resource + "/" + asked.Subresource)
	return apierrors.NewForbidden(resource, asked.Name, fmt.Errorf("user %q may not create it: %s", asked.User.GetName(), reason))
}

// containerOf is the container that is meant: the one of that name, or the
// pod's only one.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	names := containerNames(pod)
	switch {
	case name != "" && slices.Contains(names, name):
		return name, nil
	case name != "":
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	case len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names))
}

func containerNames(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

// at is a path and a query at a node's agent.
func at(base *url.URL, path string, query url.Values) *url.URL {
	location := *base
	location.Path = path
	location.RawQuery = query.Encode()
	return &location
}
