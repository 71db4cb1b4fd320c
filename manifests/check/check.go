// Package check looks at all declared objects together, and finds what is
// valid by itself and cannot work in company: a service that selects nothing,
// a config map that nobody declares, a node port claimed twice.
//
// A dry run and the reconciler's loop call it between reading manifests and
// planning. It is pure: it reads no file and no clock, and what it says
// depends on its arguments alone.
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

	// Objects are what lives beside the sets: namespaces, config maps,
	// secrets, services, pods and replication controllers; other kinds are
	// not looked at. Whoever plans a deletion leaves its object out. Those
	// that a set declares, and pods that a controller made, are passed over.
	Objects []schema.Object
}

// Check returns what is wrong with the sets together, sorted by place. An
// error means that the commit cannot be applied, or cannot work, as it is
// written; a warning that something waits or answers nobody. Codes that are
// off, for the run or by the object's annotation Ignore, are left out. The
// findings have no excerpt: see manifests.Quote. The sets must be complete,
// that is, loaded without errors.
func Check(sets []*manifests.Set, in Cluster, off Disabled) manifests.Diagnostics {
	c := &checker{index: newIndex(sets, in), cluster: in, off: off, manySources: len(sets) > 1, comparisons: maxComparisons}
	c.checkIgnores()
	c.checkNamespaces()
	c.checkServices()
	for i := range c.index.workloads {
		if w := &c.index.workloads[i]; w.item != nil {
			c.checkReferences(w)
			c.checkNodes(w)
		}
	}
	return manifests.Join(c.found)
}

// maxComparisons bounds what is spent on guessing what somebody meant.
const maxComparisons = 20_000

type checker struct {
	index       *index
	cluster     Cluster
	off         Disabled
	manySources bool
	comparisons int // left
	found       manifests.Diagnostics
}

// finding is what a check says about a field of an item.
type finding struct {
	code       string
	field      string
	message    string
	suggestion string
}

// report adds a finding, unless it is turned off.
func (c *checker) report(item *manifests.Item, f finding) {
	if c.isOff(item, f.code) {
		return
	}
	severity := manifests.Error
	if f.code[0] == 'W' {
		severity = manifests.Warning
	}
	at, _ := item.Position(f.field)
	c.found = append(c.found, manifests.Diagnostic{
		Severity: severity, Code: f.code, Position: at, Object: item.Title, Message: f.message, Suggestion: f.suggestion,
	})
}

func (c *checker) isOff(item *manifests.Item, code string) bool {
	return c.off[code] || ignores(item, code)
}

// didYouMean is a suggestion, or "" where nothing is near.
func (c *checker) didYouMean(word string, candidates []string) string {
	if c.comparisons -= len(candidates); c.comparisons < 0 {
		return ""
	}
	if near := manifests.Nearest(word, candidates); near != "" && near != word {
		return "did you mean \"" + near + "\"?"
	}
	return ""
}

// place names where an item is, for a finding about another one.
func (c *checker) place(item *manifests.Item, field string) string {
	at, _ := item.Position(field)
	if c.manySources {
		return at.Source + ": " + at.String()
	}
	return at.String()
}

// notThere says where something was looked for without success.
func (c *checker) notThere() string {
	if c.cluster.Known {
		return "neither declared nor in the cluster"
	}
	return "not declared here (the cluster was not looked at)"
}
