package apiserver

import (
	"fmt"
	"slices"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// groups installs group versions as GenericAPIServer.InstallAPIGroups does,
// but with a type converter of ours: that one makes its own at once, of the
// definitions of all of Kubernetes.
type groups struct {
	generic        *genericapiserver.GenericAPIServer
	info           genericapiserver.APIGroupInfo
	converter      managedfields.TypeConverter
	config         *genericapiserver.Config
	minWatch       time.Duration // the shortest time that a watch lasts
	optionsVersion kschema.GroupVersion
}

func newGroups(generic *genericapiserver.GenericAPIServer, config *genericapiserver.Config, converter managedfields.TypeConverter) *groups {
	return &groups{
		generic: generic, config: config, converter: converter,
		info:           genericapiserver.NewDefaultAPIGroupInfo("", scheme.Scheme, scheme.ParameterCodec, scheme.Codecs),
		minWatch:       time.Duration(config.MinRequestTimeout) * time.Second,
		optionsVersion: kschema.GroupVersion{Version: "v1"},
	}
}

// installCore serves the core group below /api.
func (g *groups) installCore(gv kschema.GroupVersion, storage map[string]rest.Storage) error {
	const prefix = genericapiserver.DefaultLegacyAPIPrefix
	found, err := g.installVersion(prefix, gv, storage)
	if err != nil {
		return err
	}
	all := g.generic.AggregatedLegacyDiscoveryGroupManager
	all.AddGroupVersion(gv.Group, found)
	addresses := discovery.DefaultAddresses{DefaultAddress: g.generic.ExternalAddress}
	root := discovery.NewLegacyRootAPIHandler(addresses, g.generic.Serializer, prefix)
	g.generic.Handler.GoRestfulContainer.Add(
		aggregated.WrapAggregatedDiscoveryToHandler(root, all, all).GenerateWebService(prefix, metav1.APIVersions{}))
	return nil
}

// install serves a group, whose versions are given, the preferred one first,
// below /apis.
func (g *groups) install(versions []kschema.GroupVersion, storage resources) error {
	group := metav1.APIGroup{Name: versions[0].Group}
	for _, gv := range versions {
		found, err := g.installVersion(genericapiserver.APIGroupPrefix, gv, storage[gv])
		if err != nil {
			return err
		}
		g.generic.AggregatedDiscoveryGroupManager.AddGroupVersion(gv.Group, found)
		group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version})
	}
	group.PreferredVersion = group.Versions[0]
	g.generic.DiscoveryGroupManager.AddGroup(group)
	g.generic.Handler.GoRestfulContainer.Add(discovery.NewAPIGroupHandler(g.generic.Serializer, group).WebService())
	return nil
}

// installVersion serves the resources of a group version, and returns what
// discovery says of them.
func (g *groups) installVersion(prefix string, gv kschema.GroupVersion, storage map[string]rest.Storage) (apidiscoveryv2.APIVersionDiscovery, error) {
	served := map[string][]string{}
	for resource := range storage {
		served[resource] = []string{gv.String()}
	}
	installed := &endpoints.APIGroupVersion{
		Root: prefix, GroupVersion: gv, Storage: storage, AllServedVersionsByResource: served,
		OptionsExternalVersion: &g.optionsVersion, MetaGroupVersion: g.info.MetaGroupVersion,
		Serializer: g.info.NegotiatedSerializer, ParameterCodec: g.info.ParameterCodec,
		Typer: scheme.Scheme, Creater: scheme.Scheme, Convertor: scheme.Scheme, ConvertabilityChecker: scheme.Scheme,
		Defaulter: scheme.Scheme, Namer: runtime.Namer(meta.NewAccessor()),
		UnsafeConvertor: runtime.UnsafeObjectConvertor(scheme.Scheme), TypeConverter: g.converter,
		EquivalentResourceRegistry: g.generic.EquivalentResourceRegistry,
		Authorizer:                 g.generic.Authorizer, Admit: g.config.AdmissionControl,
		MinRequestTimeout: g.minWatch, MaxRequestBodyBytes: g.config.MaxRequestBodyBytes,
	}
	found, _, err := installed.InstallREST(g.generic.Handler.GoRestfulContainer)
	if err != nil {
		return apidiscoveryv2.APIVersionDiscovery{}, fmt.Errorf("install %s: %w", gv, err)
	}
	return apidiscoveryv2.APIVersionDiscovery{
		Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Version: gv.Version, Resources: found,
	}, nil
}

// byGroup sorts group versions by their group, and those of a group from the
// newest to the oldest; the core group is left out.
func byGroup(all resources) [][]kschema.GroupVersion {
	byName := map[string][]kschema.GroupVersion{}
	var names []string
	for gv := range all {
		if gv.Group == "" {
			continue
		}
		if byName[gv.Group] == nil {
			names = append(names, gv.Group)
		}
		byName[gv.Group] = append(byName[gv.Group], gv)
	}
	slices.Sort(names)
	out := make([][]kschema.GroupVersion, 0, len(names))
	for _, name := range names {
		versions := byName[name]
		slices.SortFunc(versions, func(a, b kschema.GroupVersion) int {
			return version.CompareKubeAwareVersionStrings(b.Version, a.Version)
		})
		out = append(out, versions)
	}
	return out
}
