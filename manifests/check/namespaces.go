package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// checkNamespaces finds objects in namespaces that nobody makes. It speaks
// once of each namespace, at the first place.
func (p *pass) checkNamespaces() {
	missing := false
	for namespace := range p.index.inhabited {
		missing = missing || !p.index.namespaces[namespace]
	}
	if !missing {
		return
	}
	code := manifests.CodeNamespaceNowhere
	if p.known {
		code = manifests.CodeNoNamespace
	}
	in, names := p.strayed(code)
	for _, namespace := range names {
		p.reportNamespace(code, namespace, in[namespace])
	}
}

// strayed are the items in namespaces that do not exist, by namespace, and the
// namespaces in the order in which they are met.
func (p *pass) strayed(code string) (in map[string][]*manifests.Item, namespaces []string) {
	in = map[string][]*manifests.Item{}
	for i, set := range p.sets {
		for j := range set.Items {
			item := &set.Items[j]
			namespace := item.Key.Namespace
			if namespace == "" || p.index.namespaces[namespace] || p.index.objects[item.Key].set != i || p.isOff(item, code) {
				continue
			}
			if in[namespace] == nil {
				namespaces = append(namespaces, namespace)
			}
			in[namespace] = append(in[namespace], item)
		}
	}
	return in, namespaces
}

func (p *pass) reportNamespace(code, namespace string, items []*manifests.Item) {
	first := slices.MinFunc(items, func(a, b *manifests.Item) int { return comparePlaces(a.Place, b.Place) })
	f := finding{code: code, field: "metadata.namespace", message: fmt.Sprintf("the namespace %q is %s", namespace, p.notThere())}
	if n := len(items) - 1; n > 0 {
		f.message += "; " + count(n, "1 more object is", "%d more objects are") + " in it"
	}
	f.suggestion = p.didYouMean(namespace, slices.Sorted(maps.Keys(p.index.namespaces)))
	if f.suggestion == "" {
		f.suggestion = "declare it: apiVersion: " + schema.Namespaces.GVK.Version + ", kind: Namespace"
	}
	p.report(first, f)
}

func comparePlaces(a, b manifests.Position) int {
	return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
