package kustomize

import (
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// step is one step down into a document: a key of a mapping, or an element of
// a list, known by its name where it has one.
type step struct {
	key   string
	index int
	name  string

	// value is what the step leads to, and isKey that its key is meant.
	value *yaml.Node
	isKey bool
}

// names are the keys by which Kubernetes tells a list's elements apart.
var names = []string{"name", "containerPort", "port", "mountPath", "key", "ip"}

func nameOf(n *yaml.Node) string {
	for _, key := range names {
		if v := child(n, key); v != nil && v.Kind == yaml.ScalarNode {
			return key + "=" + v.Value
		}
	}
	return ""
}

// find is the way to what stands at a place, the longest if there are several.
func find(n *yaml.Node, line, column int) []step {
	var found []step
	var into func(n *yaml.Node, way []step)
	into = func(n *yaml.Node, way []step) {
		if n.Line == line && n.Column == column && len(way) >= len(found) {
			found = append([]step(nil), way...)
		}
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				key, value := n.Content[i], n.Content[i+1]
				next := append(way, step{key: key.Value, value: value})
				if key.Line == line && key.Column == column {
					found = append([]step(nil), next...)
					found[len(found)-1].isKey = true
				}
				into(value, next)
			}
		case yaml.SequenceNode:
			for i, e := range n.Content {
				into(e, append(way, step{index: i, name: nameOf(e), value: e}))
			}
		}
	}
	into(n, nil)
	return found
}

// follow goes a way in another document, and returns what stands there if it
// says the same: the key or the value, as the way's end means.
func follow(n *yaml.Node, way []step) *yaml.Node {
	at := n
	for _, s := range way {
		var key *yaml.Node
		key, n = s.in(n)
		if n == nil {
			return nil
		}
		at = n
		if s.isKey {
			at = key
		}
	}
	if len(way) == 0 {
		return at
	}
	if want := way[len(way)-1].value; want.Kind != n.Kind || want.Kind == yaml.ScalarNode && want.Value != n.Value {
		return nil
	}
	return at
}

// in takes the step in a document.
func (s step) in(n *yaml.Node) (key, value *yaml.Node) {
	if s.key != "" {
		return entry(n, s.key)
	}
	if n.Kind != yaml.SequenceNode {
		return nil, nil
	}
	for i, e := range n.Content {
		if s.name != "" && nameOf(e) == s.name || s.name == "" && i == s.index {
			return e, e
		}
	}
	return nil, nil
}

func entry(n *yaml.Node, name string) (key, value *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func child(n *yaml.Node, name string) *yaml.Node {
	_, v := entry(n, name)
	return v
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func scalarAt(n *yaml.Node, way ...string) string {
	for _, key := range way {
		n = child(n, key)
	}
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// setBy is what in a kustomization sets a field of an object: the namespace,
// a name's prefix, a count of replicas or an image.
func setBy(kustomization, object *yaml.Node, way []step) *yaml.Node {
	if len(way) == 0 || way[len(way)-1].value.Kind != yaml.ScalarNode {
		return nil
	}
	last := way[len(way)-1]
	value := last.value.Value
	field := func(of *yaml.Node, key string, fits func(string) bool) *yaml.Node {
		if v := child(of, key); v != nil && v.Value != "" && fits(v.Value) {
			return v
		}
		return nil
	}
	is := func(s string) bool { return s == value }
	within := func(s string) bool { return strings.Contains(value, s) }
	switch last.key {
	case "namespace":
		return field(kustomization, "namespace", is)
	case "name":
		if n := field(kustomization, "namePrefix", within); n != nil {
			return n
		}
		return field(kustomization, "nameSuffix", within)
	case "replicas":
		for _, r := range items(child(kustomization, "replicas")) {
			if n := field(r, "count", is); n != nil && strings.Contains(scalarAt(object, "metadata", "name"), scalarAt(r, "name")) {
				return n
			}
		}
	case "image":
		for _, image := range items(child(kustomization, "images")) {
			for _, key := range []string{"newTag", "digest", "newName"} {
				if n := field(image, key, within); n != nil {
					return n
				}
			}
		}
	}
	return nil
}

// generator is the entry that generates a config map or secret.
func generator(kustomization, object *yaml.Node, _ []step) *yaml.Node {
	fields := map[string]string{"ConfigMap": "configMapGenerator", "Secret": "secretGenerator"}
	field, ok := fields[scalarAt(object, "kind")]
	if !ok {
		return nil
	}
	for _, g := range items(child(kustomization, field)) {
		if name := scalarAt(g, "name"); name != "" && strings.Contains(scalarAt(object, "metadata", "name"), name) {
			return g
		}
	}
	return nil
}
