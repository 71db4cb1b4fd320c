// Package openapi describes the types of the API: Kubernetes' own definitions
// of those that Evenkeel serves, and no others.
//
// schema/apiserver serves it. Nothing in here is done, or held, before somebody
// asks for a description or writes an object.
package openapi

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	generated "k8s.io/kubernetes/pkg/generated/openapi"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// beside are the types that the API serves beside the kinds of the registries.
var beside = []any{
	&authenticationv1.SelfSubjectReview{}, &authenticationv1.TokenRequest{}, &authenticationv1.TokenReview{},
	&authorizationv1.LocalSubjectAccessReview{}, &authorizationv1.SelfSubjectAccessReview{},
	&authorizationv1.SelfSubjectRulesReview{}, &authorizationv1.SubjectAccessReview{},
	&autoscalingv1.Scale{}, &policyv1.Eviction{}, &corev1.Binding{}, &eventsv1.Event{}, &eventsv1.EventList{},
	&metricsv1beta1.NodeMetrics{}, &metricsv1beta1.NodeMetricsList{}, &metricsv1beta1.PodMetrics{}, &metricsv1beta1.PodMetricsList{},
	&corev1.PodAttachOptions{}, &corev1.PodExecOptions{}, &corev1.PodLogOptions{}, &corev1.PodPortForwardOptions{},
	&corev1.NodeProxyOptions{}, &corev1.PodProxyOptions{}, &corev1.ServiceProxyOptions{},
	&metav1.APIGroup{}, &metav1.APIGroupList{}, &metav1.APIResourceList{}, &metav1.APIVersions{}, &metav1.Status{},
	&metav1.DeleteOptions{}, &metav1.Patch{}, &metav1.WatchEvent{}, &version.Info{},
}

// definitions are the definitions of all types that the API serves, and of
// those that they refer to.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := generated.GetOpenAPIDefinitions(ref)
	out := map[string]common.OpenAPIDefinition{}
	for _, root := range roots() {
		add(out, all, root)
	}
	return out
}

func roots() []string {
	var out []string
	for _, kind := range schema.Kinds {
		out = append(out, util.GetCanonicalTypeName(kind.New()), util.GetCanonicalTypeName(scheme.NewList(kind)))
	}
	for _, t := range beside {
		out = append(out, util.GetCanonicalTypeName(t))
	}
	return out
}

// add copies a definition, and those that it refers to.
func add(out, all map[string]common.OpenAPIDefinition, name string) {
	if _, done := out[name]; done {
		return
	}
	definition, ok := all[name]
	if !ok {
		return
	}
	out[name] = definition
	for _, dependency := range definition.Dependencies {
		add(out, all, dependency)
	}
}

// configV2 says how a description in version 2 is made.
func configV2(version string) *common.Config {
	config := genericapiserver.DefaultOpenAPIConfig(definitions, apiopenapi.NewDefinitionNamer(scheme.Versioned))
	config.Info = info(version)
	return config
}

// configV3 says how descriptions in version 3 are made. It holds all
// definitions.
func configV3(version string) *common.OpenAPIV3Config {
	config := genericapiserver.DefaultOpenAPIV3Config(definitions, apiopenapi.NewDefinitionNamer(scheme.Versioned))
	config.Info = info(version)
	return config
}

// info is what the descriptions say of themselves.
func info(version string) *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Description: "The Kubernetes API of an Evenkeel cluster.", Version: version}}
}
