package schema

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Key names one object: resource, namespace (empty for cluster-wide kinds)
// and name. It is comparable.
type Key struct {
	Resource  string
	Namespace string
	Name      string
}

// KeyOf returns the key of an object. It panics on a Go type that is no kind
// of ours, which is a fault in the program and not in any input.
func KeyOf(obj Object) Key {
	k, err := KindOf(obj)
	if err != nil {
		panic(err)
	}
	return k.Key(obj.GetNamespace(), obj.GetName())
}

// Key returns the key of the kind's object of that name; the namespace is
// dropped for cluster-wide kinds.
func (k *Kind) Key(namespace, name string) Key {
	if !k.Namespaced {
		namespace = ""
	}
	return Key{Resource: k.Resource, Namespace: namespace, Name: name}
}

// String gives the key as people read it: "pods/shop/web-1", "nodes/n1".
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource + "/" + k.Name
	}
	return k.Resource + "/" + k.Namespace + "/" + k.Name
}

// Compare orders keys by resource, namespace and name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Resource, o.Resource); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// Root is the prefix of everything that Evenkeel keeps in etcd.
const Root = "/registry/"

// The parts of the key space that are not one object of a kind each.
const (
	PodStatusPrefix    = Root + "podstatus/"    // <node>/<ns>/<name>: Pod, metadata and status only; writer: that node's agent
	BindingsPrefix     = Root + "bindings/"     // <node>/…: all that the node may read; writer: control plane
	NodeStatusPrefix   = Root + "nodestatus/"   // <node>: Node, metadata and status only; writer: that node's agent
	NodeLeasePrefix    = Root + "nodelease/"    // <node>: Lease, presence, on an etcd lease; writer: that node's agent
	SourcesPrefix      = Root + "sources/"      // <source>/…; writer: reconciler
	ServiceIPsPrefix   = Root + "serviceips/"   // <address>: the service key that holds it; writer: services registry
	ServicePortsPrefix = Root + "serviceports/" // <protocol>/<port>: the service key that holds it; writer: services registry
	StaticPodsPrefix   = Root + "staticpods/"   // <node>/<ns>/<name>: Pod, a node's own; writer: that node's agent
	PodCIDRsPrefix     = Root + "podcidrs/"     // <address>_<bits>: the node that holds it; writer: node lifecycle
	EvictionsPrefix    = Root + "evictions/"    // <node>: for how long pods have stood its taints; writer: taint eviction
	ElectionPrefix     = Root + "election/"     // <role>: who leads, on an etcd lease
	PKIPrefix          = Root + "pki/"          // ca, serviceaccounts: private keys; writer and only reader: control plane
	TerminatingPrefix  = Root + "terminating/"  // <namespace>: there while the namespace ends, so that nothing is created in it
	APIServersPrefix   = Root + "apiservers/"   // <process>: where a live API server listens, on an etcd lease
	BindingNodeName    = "node"                 // bindings/<node>/node: the Node itself; where it is missing, a list of bindings is no authority
	BindingPeersName   = "peers"                // bindings/<node>/peers: NodeList of the other nodes: addresses and pod CIDRs
	BindingTrustName   = "trust"                // bindings/<node>/trust: ConfigMap, ca.crt is what clients of the node's server are checked against
	BindingTokensName  = "tokens"               // bindings/<node>/tokens/…: see BindingTokensPath
	RegistryDirectory  = "evenkeel.io/"         // prefix of our annotations and labels
)

// StoppedAnnotation on a pod's status key says that its agent has stopped and
// removed all there was of the pod; its value is the pod's UID. A joined pod
// carries it.
const StoppedAnnotation = RegistryDirectory + "stopped"

// The annotations that Kubernetes' tools know static pods and their mirrors by.
// The mirror's value is the UID of the static pod.
const (
	ConfigSourceAnnotation = "kubernetes.io/config.source"
	ConfigHashAnnotation   = "kubernetes.io/config.hash"
	MirrorAnnotation       = "kubernetes.io/config.mirror"
)

// CutOffAnnotation on a pod says what its node does with it when it is cut off
// from the store for so long that the pod may soon run elsewhere: with
// CutOffStop it ends the containers before; else they run on.
const (
	CutOffAnnotation = RegistryDirectory + "when-cut-off"
	CutOffStop       = "stop"
)

// ServingAnnotation on a node's status key pins the certificate that its
// agent's server shows: "sha256:" and the hash of its DER encoding in hex.
const ServingAnnotation = RegistryDirectory + "serving-certificate"

// APIServerGroup is the organisation in the client certificate with which the
// API server calls the servers of node agents, and APIServerUser its name.
const (
	APIServerGroup = "evenkeel:apiserver"
	APIServerUser  = "evenkeel-apiserver"
)

// SourceAnnotation, CommitAnnotation and FileAnnotation say of an object that a
// source declares which one, at which commit it was last changed, and where:
// "apps/web.yaml:7". The reconciler alone writes them.
const (
	SourceAnnotation = RegistryDirectory + "source"
	CommitAnnotation = RegistryDirectory + "commit"
	FileAnnotation   = RegistryDirectory + "file"
)

// Path returns the etcd key of the object.
func (k Key) Path() string { return Root + k.String() }

// Prefix returns the etcd prefix of all objects of the kind, or of those in
// one namespace.
func (k *Kind) Prefix(namespace string) string {
	if namespace == "" || !k.Namespaced {
		return Root + k.Resource + "/"
	}
	return Root + k.Resource + "/" + namespace + "/"
}

// ParsePath is the inverse of Key.Path. It fails for a path that is no object
// of a kind.
func ParsePath(path string) (Key, error) {
	rest, ok := strings.CutPrefix(path, Root)
	parts := strings.Split(rest, "/")
	if ok {
		if k, known := byResource[parts[0]]; known {
			if k.Namespaced && len(parts) == 3 {
				return Key{Resource: parts[0], Namespace: parts[1], Name: parts[2]}, nil
			}
			if !k.Namespaced && len(parts) == 2 {
				return Key{Resource: parts[0], Name: parts[1]}, nil
			}
		}
	}
	return Key{}, fmt.Errorf("parse key %q: not an object's key", path)
}

// PodStatusPath is the key of a pod's status, written by its node's agent.
func PodStatusPath(node, namespace, name string) string {
	return PodStatusPrefix + node + "/" + namespace + "/" + name
}

// BindingPrefix is all that one node may read.
func BindingPrefix(node string) string { return BindingsPrefix + node + "/" }

// BindingPath is the key, under a node's bindings, of an object bound to it or
// referred to by its pods.
func BindingPath(node string, k Key) string { return BindingPrefix(node) + k.String() }

// BindingTokensPath is the key of the service account tokens of one pod on its
// node: a Secret whose data are TokenName → token.
func BindingTokensPath(node, namespace, pod string, uid types.UID) string {
	return BindingPrefix(node) + BindingTokensName + "/" + namespace + "/" + pod + "." + string(uid)
}

// TokenName is under what name a pod's token for an audience is found;
// audience "" is the API itself.
func TokenName(audience string, expirationSeconds int64) string {
	return audience + "|" + strconv.FormatInt(expirationSeconds, 10)
}
