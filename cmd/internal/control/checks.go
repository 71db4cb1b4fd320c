package control

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
)

// check is the reconciler's Check.
func (cfg Config) check(sets []*manifests.Set, base *reconciler.Base) manifests.Diagnostics {
	return check.Check(sets, ClusterOf(base, sets), cfg.off)
}

// ClusterOf is what stays of the cluster in base beside what the sets declare:
// what their sources no longer declare goes.
func ClusterOf(base *reconciler.Base, sets []*manifests.Set) check.Cluster {
	out := check.Cluster{Known: true}
	read := map[string]bool{}
	for _, set := range sets {
		read[set.Source] = true
	}
	desired := reconciler.NewDesired(sets...)
	for _, key := range slices.SortedFunc(maps.Keys(base.Objects), schema.Key.Compare) {
		obj := base.Objects[key]
		if owned, ok := base.Inventory[key]; ok && read[owned.Source] {
			if _, stays := desired[key]; !stays {
				continue
			}
		}
		if node, isNode := obj.(*corev1.Node); isNode && key.Resource == schema.Nodes.Resource {
			out.Nodes = append(out.Nodes, node)
		}
		out.Objects = append(out.Objects, obj)
	}
	return out
}
