package apiserver

import (
	eventsv1 "k8s.io/api/events/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/routes"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/node"
	"github.com/evenkeel/evenkeel/schema/apiserver/openapi"
	"github.com/evenkeel/evenkeel/schema/apiserver/reviews"
	"github.com/evenkeel/evenkeel/schema/apiserver/storage"
	"github.com/evenkeel/evenkeel/schema/apiserver/tables"
)

// resources is the storage of each resource and subresource, by group version.
type resources map[kschema.GroupVersion]map[string]rest.Storage

func (r resources) add(gv kschema.GroupVersion, resource string, s rest.Storage) {
	if r[gv] == nil {
		r[gv] = map[string]rest.Storage{}
	}
	r[gv][resource] = s
}

// install makes the server serve every kind.
func (s *Server) install(config *genericapiserver.Config) error {
	all := s.resources()
	groups := newGroups(s.generic, config, openapi.NewConverter())
	core := kschema.GroupVersion{Version: "v1"}
	if err := groups.installCore(core, all[core]); err != nil {
		return err
	}
	for _, versions := range byGroup(all) {
		if err := groups.install(versions, all); err != nil {
			return err
		}
	}
	if s.cfg.Issuer != nil {
		routes.NewOpenIDMetadataServer(s.cfg.Issuer).Install(s.generic.Handler.GoRestfulContainer)
	}
	openapi.NewDocuments(s.generic.Handler.GoRestfulContainer, config.EffectiveVersion.Info().GitVersion).Install(s.generic.Handler.NonGoRestfulMux)
	return nil
}

// resources makes the storage of everything that is served.
func (s *Server) resources() resources {
	cfg := &storage.Config{Registries: s.cfg.Registries, Hub: s.hub, Tables: tables.For, Owned: s.cfg.Owned, DenyOwned: s.cfg.DenyOwned}
	out := resources{}
	for _, kind := range schema.Kinds {
		gv := kind.GVK.GroupVersion()
		out.add(gv, kind.Resource, storage.New(cfg, kind))
		if storage.HasStatus(kind) {
			out.add(gv, kind.Resource+"/status", storage.NewStatus(cfg, kind))
		}
		if storage.HasScale(kind) {
			out.add(gv, kind.Resource+"/scale", storage.NewScale(cfg, kind))
		}
	}
	core := schema.Pods.GVK.GroupVersion()
	out.add(core, "bindings", storage.NewBindings(cfg))
	out.add(core, "pods/binding", storage.NewBinding(cfg))
	out.add(core, "pods/eviction", storage.NewEviction(cfg))
	out.add(core, "pods/ephemeralcontainers", storage.NewEphemeralContainers(cfg))
	out.add(core, "pods/resize", storage.NewResize(cfg))
	out.add(eventsv1.SchemeGroupVersion, "events", storage.NewEvents(cfg))
	s.addNode(out)
	s.addReviews(out)
	if accounts := out[core]["serviceaccounts"]; accounts != nil && s.cfg.Token != nil {
		out.add(core, "serviceaccounts/token", storage.NewTokens(accounts, s.cfg.Token))
	}
	return out
}

// addNode adds what nodes' agents answer.
func (s *Server) addNode(to resources) {
	cfg := &node.Config{Get: s.cfg.Registries.Get, Hub: s.hub, Kubelet: s.cfg.Kubelet, Authorizer: s.cfg.Authorizer}
	core := schema.Pods.GVK.GroupVersion()
	to.add(core, "pods/log", node.NewLogs(cfg))
	to.add(core, "pods/exec", node.NewExec(cfg))
	to.add(core, "pods/attach", node.NewAttach(cfg))
	to.add(core, "pods/portforward", node.NewPortForward(cfg))
	to.add(core, "pods/proxy", node.NewPodProxy(cfg))
	to.add(core, "services/proxy", node.NewServiceProxy(cfg))
	to.add(core, "nodes/proxy", node.NewNodeProxy(cfg))
	if s.cfg.Kubelet != nil {
		to.add(metricsv1beta1.SchemeGroupVersion, "nodes", node.NewNodeMetrics(cfg))
		to.add(metricsv1beta1.SchemeGroupVersion, "pods", node.NewPodMetrics(cfg))
	}
}

// addReviews adds what answers who somebody is and what they may do.
func (s *Server) addReviews(to resources) {
	all := reviews.New(reviews.Config{
		Authenticator: s.cfg.Authenticator, Audiences: s.cfg.Audiences, Authorizer: s.cfg.Authorizer, Rules: s.cfg.Rules,
	})
	for gv, byResource := range all {
		for resource, storage := range byResource {
			to.add(gv, resource, storage)
		}
	}
}
