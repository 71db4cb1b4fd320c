package manifests

import (
	"strings"

	"github.com/evenkeel/evenkeel/schema"
)

// kubernetesKinds are Kubernetes' kinds by group, so that one that Evenkeel
// does not have can be told from one that nobody has.
var kubernetesKinds = parseKinds(`
	: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount
	admissionregistration.k8s.io: MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
	apiextensions.k8s.io: CustomResourceDefinition
	apiregistration.k8s.io: APIService
	apps: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
	autoscaling: HorizontalPodAutoscaler
	batch: CronJob Job
	certificates.k8s.io: CertificateSigningRequest ClusterTrustBundle PodCertificateRequest
	coordination.k8s.io: Lease LeaseCandidate
	discovery.k8s.io: EndpointSlice
	events.k8s.io: Event
	extensions: DaemonSet Deployment Ingress NetworkPolicy ReplicaSet
	flowcontrol.apiserver.k8s.io: FlowSchema PriorityLevelConfiguration
	networking.k8s.io: IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR
	node.k8s.io: RuntimeClass
	policy: Eviction PodDisruptionBudget
	rbac.authorization.k8s.io: ClusterRole ClusterRoleBinding Role RoleBinding
	resource.k8s.io: DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
	scheduling.k8s.io: PriorityClass
	storage.k8s.io: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
`)

func parseKinds(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		group, kinds, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			out[group] = strings.Fields(kinds)
		}
	}
	return out
}

// isKubernetesKind reports whether Kubernetes has the kind in that group.
func isKubernetesKind(group, kind string) bool {
	for _, k := range kubernetesKinds[group] {
		if k == kind {
			return true
		}
	}
	return false
}

// declarableNames are the kinds that a manifest may hold.
func declarableNames() []string {
	var names []string
	for _, k := range schema.Kinds {
		if k.Declarable {
			names = append(names, k.GVK.Kind)
		}
	}
	return names
}

// allKindNames are the names of all kinds that somebody may have meant, ours
// first.
func allKindNames() []string {
	names := declarableNames()
	for _, kinds := range kubernetesKinds {
		names = append(names, kinds...)
	}
	return names
}

// kindsNamed returns our kinds of that name, whatever their group.
func kindsNamed(name string) []*schema.Kind {
	var out []*schema.Kind
	for _, k := range schema.Kinds {
		if k.GVK.Kind == name {
			out = append(out, k)
		}
	}
	return out
}

// otherFormats are files that lie beside manifests and are none, by the group
// of their apiVersion.
var otherFormats = map[string]string{
	"kustomize.config.k8s.io": "kustomize is not supported here yet: commit what it renders",
	"helm.toolkit.fluxcd.io":  "Flux's own kinds are not for Evenkeel",
	"argoproj.io":             "Argo's own kinds are not for Evenkeel",
}
