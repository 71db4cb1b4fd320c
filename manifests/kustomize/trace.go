package kustomize

import (
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/evenkeel/evenkeel/manifests"
)

// tracer finds where a person edits what stands in a rendered text: in the
// file of the object, in a patch, or in the kustomization, wherever the same
// field has the same value.
type tracer struct {
	rendered *rendered
	tree     *tree

	once    sync.Once
	nodes   []*yaml.Node // of the rendered documents
	written []written
}

// written is one document that a person wrote.
type written struct {
	file        string
	document    int
	node        *yaml.Node
	kind        string
	text        []byte // of the whole file
	downBy, by  int    // where the document begins, if it stands within another
	isKustomize bool
}

func newTracer(t *tree, r *rendered) *tracer { return &tracer{rendered: r, tree: t} }

// trace is a manifests.File's Trace.
func (t *tracer) trace(line, column int) manifests.Place {
	t.once.Do(t.parse)
	unknown := manifests.Place{File: t.tree.shown(t.rendered.name)}
	i, _ := slices.BinarySearchFunc(t.rendered.docs, line+1, func(d renderedDoc, l int) int { return d.line - l })
	if i--; i < 0 || t.nodes[i] == nil {
		return unknown
	}
	doc := t.rendered.docs[i]
	origin := doc.origin.Path
	if origin == "" {
		origin = doc.origin.ConfiguredIn
	}
	origin = path.Join(path.Dir(t.rendered.name), origin)
	way := find(t.nodes[i], line, column)
	if line == doc.line && column == 1 {
		way = way[:0] // the object itself
	}
	return t.place(origin, t.nodes[i], way, unknown)
}

// place looks for a field where its object comes from, then in patches, then
// in what kustomizations say.
func (t *tracer) place(origin string, object *yaml.Node, way []step, unknown manifests.Place) manifests.Place {
	kind := scalarAt(object, "kind")
	for _, here := range []bool{true, false} {
		for _, w := range t.written {
			if w.isKustomize || (w.file == origin) != here || w.kind != kind || !sameName(w.node, object) {
				continue
			}
			if n := follow(w.node, way); n != nil {
				return t.tree.place(w, n)
			}
		}
	}
	for _, by := range []func(kustomization, object *yaml.Node, way []step) *yaml.Node{setBy, generator} {
		for _, w := range t.written {
			if !w.isKustomize {
				continue
			}
			if n := by(w.node, object, way); n != nil {
				return t.tree.place(w, n)
			}
		}
	}
	return unknown
}

func (t *tree) place(w written, n *yaml.Node) manifests.Place {
	line := n.Line + w.downBy
	return manifests.Place{File: t.shown(w.file), Line: line, Column: n.Column + w.by, Document: w.document, Text: lineText(w.text, line)}
}

// sameName reports whether the object may be made of the document: kustomize
// adds to names before and behind.
func sameName(doc, object *yaml.Node) bool {
	was, is := scalarAt(doc, "metadata", "name"), scalarAt(object, "metadata", "name")
	return was == "" || strings.Contains(is, was)
}

// parse reads what was rendered, and all that it may have been made from.
func (t *tracer) parse() {
	t.nodes = documents(t.rendered.text)
	for len(t.nodes) < len(t.rendered.docs) {
		t.nodes = append(t.nodes, nil)
	}
	for _, name := range t.tree.below(t.rendered.dirs) {
		if !manifests.HasManifestName(name) || manifests.IsKustomization(name) {
			continue
		}
		text, err := t.tree.files[name].Read()
		if err != nil {
			continue // it cannot be shown
		}
		for i, d := range documents(text) {
			if d != nil {
				t.written = append(t.written, written{file: name, document: i + 1, node: d, kind: scalarAt(d, "kind"), text: text})
			}
		}
	}
	for _, dir := range t.rendered.dirs {
		t.kustomization(t.tree.nodes[dir])
	}
}

// kustomization adds a kustomization and the patches that stand in it.
func (t *tracer) kustomization(n *node) {
	root := content(&n.yaml)
	if root == nil {
		return
	}
	t.written = append(t.written, written{file: n.file(), document: 1, node: root, text: n.text, isKustomize: true})
	inline := func(v *yaml.Node) {
		if v == nil || v.Kind != yaml.ScalarNode || v.Style&yaml.LiteralStyle == 0 {
			return
		}
		first := lineText(n.text, v.Line+1)
		for _, d := range documents([]byte(v.Value)) {
			if d != nil {
				t.written = append(t.written, written{
					file: n.file(), document: 1, node: d, kind: scalarAt(d, "kind"), text: n.text,
					downBy: v.Line, by: len(first) - len(strings.TrimLeft(first, " ")),
				})
			}
		}
	}
	for _, p := range items(child(root, "patches")) {
		inline(child(p, "patch"))
	}
	for _, p := range items(child(root, "patchesStrategicMerge")) {
		inline(p)
	}
}

// documents are the roots of a text's documents, nil for empty ones.
func documents(text []byte) []*yaml.Node {
	var out []*yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		if err := d.Decode(&n); errors.Is(err, io.EOF) || err != nil {
			return out // what does not parse cannot be traced
		}
		out = append(out, content(&n))
	}
}

func content(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		n = n.Content[0]
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	return n
}
