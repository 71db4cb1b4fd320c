// Package check looks at all declared objects together, and finds what is
// valid by itself and cannot work in company: a service that selects nothing,
// a config map that nobody declares, a node port claimed twice.
//
// A dry run and the reconciler's loop call it between reading manifests and
// planning. It reads no file and no clock, and what it says depends on what it
// was given alone: Check is given everything at once, a Checker what changed.
package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// Cluster is what is known of the cluster that the sets are for. The zero
// value knows nothing; what then may exist there is not missed, or with a
// warning that says so.
type Cluster struct {
	// Nodes are the known nodes, with names, labels and allocatable
	// resources. Without any, nothing is said about where pods fit.
	Nodes []*corev1.Node

	// Known says that Objects are all that the cluster holds.
	Known bool

	// Objects are what lives beside the sets: namespaces, config maps, secrets,
	// claims, accounts, services, pods and replication controllers; others are
	// not looked at. Whoever plans a deletion leaves its object out. Those
	// that a set declares, and pods that a controller made, are passed over.
	Objects []schema.Object
}

// Check returns what is wrong with the sets together, sorted by place. An
// error means that the commit cannot be applied, or cannot work, as it is
// written; a warning that something waits or answers nobody. Codes that are
// off, for the run or by the object's annotation Ignore, are left out. The
// findings have no excerpt: see manifests.Quote. The sets must be complete,
// that is, loaded without errors; of an object in two of them the first counts.
func Check(sets []*manifests.Set, in Cluster, off Disabled) manifests.Diagnostics {
	c := NewChecker(in.Known, off)
	c.Declare(sets...)
	for _, o := range in.Objects {
		c.Beside(schema.KeyOf(o), o)
	}
	c.SetNodes(in.Nodes)
	return c.Findings()
}
