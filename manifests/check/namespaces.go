package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// checkNamespaces finds objects in namespaces that nobody makes. It speaks
// once of each namespace, at the first place.
func (c *checker) checkNamespaces() {
	exists := map[string]bool{}
	for _, name := range c.index.namespaces {
		exists[name] = true
	}
	code := manifests.CodeNamespaceNowhere
	if c.cluster.Known {
		code = manifests.CodeNoNamespace
	}
	in := map[string][]*manifests.Item{}
	var names []string
	for _, item := range c.index.items {
		namespace := item.Key.Namespace
		if namespace == "" || exists[namespace] || c.isOff(item, code) {
			continue
		}
		if in[namespace] == nil {
			names = append(names, namespace)
		}
		in[namespace] = append(in[namespace], item)
	}
	for _, namespace := range names {
		c.reportNamespace(code, namespace, in[namespace])
	}
}

func (c *checker) reportNamespace(code, namespace string, items []*manifests.Item) {
	first := slices.MinFunc(items, func(a, b *manifests.Item) int { return comparePlaces(a.Place, b.Place) })
	f := finding{code: code, field: "metadata.namespace", message: fmt.Sprintf("the namespace %q is %s", namespace, c.notThere())}
	if n := len(items) - 1; n > 0 {
		f.message += "; " + count(n, "1 more object is", "%d more objects are") + " in it"
	}
	f.suggestion = c.didYouMean(namespace, c.index.namespaces)
	if f.suggestion == "" {
		f.suggestion = "declare it: apiVersion: " + schema.Namespaces.GVK.Version + ", kind: Namespace"
	}
	c.report(first, f)
}

func comparePlaces(a, b manifests.Position) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
