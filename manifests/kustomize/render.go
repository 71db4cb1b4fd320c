package kustomize

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/evenkeel/evenkeel/manifests"
)

// rendered is what came of one kustomization.
type rendered struct {
	fingerprint string
	name        string // of the kustomization file
	text        []byte // nil where findings say why
	docs        []renderedDoc
	dirs        []string // that it was made from
	findings    manifests.Diagnostics
}

// renderedDoc is one object of the text.
type renderedDoc struct {
	line   int // at which it begins
	origin resource.Origin
}

// kustomize keeps its OpenAPI schema for the whole process.
var oneAtATime sync.Mutex

// render makes the objects of a kustomization. Its error says that a file's
// content is unknown.
func (t *tree) render(dir string) (*rendered, error) {
	n := t.nodes[dir]
	r := &rendered{name: n.file(), dirs: t.closure(dir)}
	if slices.ContainsFunc(r.dirs, func(d string) bool { return t.nodes[d].bad }) {
		return r, nil // already said
	}
	fsys := &files{tree: t, given: map[string][]byte{}}
	for _, d := range r.dirs {
		fsys.given[t.nodes[d].file()] = t.nodes[d].text
	}
	text, err := prepared(n.text)
	if err == nil {
		fsys.given[n.file()] = text
		fsys.given[path.Join(dir, referencesFile)] = []byte(references())
		err = r.run(fsys, dir, n.kust.BuildMetadata)
	}
	if fsys.err != nil {
		return nil, fsys.err
	}
	if err != nil {
		r.text, r.docs = nil, nil
		r.findings = manifests.Diagnostics{t.failure(n, err)}
	}
	return r, nil
}

// prepared is a kustomization that asks kustomize to say where each object
// came from, and has it know the references that it does not.
func prepared(text []byte) ([]byte, error) {
	doc, err := yaml.Parse(string(text))
	if err != nil {
		return nil, err
	}
	if err := doc.PipeE(yaml.SetField("buildMetadata", yaml.NewListRNode(types.OriginAnnotations))); err != nil {
		return nil, err
	}
	if err := doc.PipeE(yaml.LookupCreate(yaml.SequenceNode, "configurations"), yaml.Append(yaml.NewStringRNode(referencesFile).YNode())); err != nil {
		return nil, err
	}
	s, err := doc.String()
	return []byte(s), err
}

// run renders into r. keep are the options of buildMetadata that the person
// asked for.
func (r *rendered) run(fsys *files, dir string, keep []string) (err error) {
	oneAtATime.Lock()
	defer oneAtATime.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kustomize cannot read it: %v", p)
		}
	}()
	options := krusty.MakeDefaultOptions() // no plugins, files below the kustomization only
	options.AddManagedbyLabel = slices.Contains(keep, types.ManagedByLabelOption)
	objects, err := krusty.MakeKustomizer(options).Run(fsys, path.Join(top, dir))
	if err != nil {
		return err
	}
	return r.print(objects, slices.Contains(keep, types.OriginAnnotations))
}

// print writes the objects as one text, and notes which came from where.
func (r *rendered) print(objects resmap.ResMap, keepOrigins bool) error {
	origins := make([]resource.Origin, objects.Size())
	for i, o := range objects.Resources() {
		origin, err := o.GetOrigin()
		if err != nil {
			return err
		}
		origins[i] = origin.Copy()
	}
	if !keepOrigins {
		if err := objects.RemoveOriginAnnotations(); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	line := 1
	for i, o := range objects.Resources() {
		text, err := o.AsYAML()
		if err != nil {
			return err
		}
		b.WriteString("---\n")
		b.Write(text)
		r.docs = append(r.docs, renderedDoc{line: line + 1, origin: origins[i]})
		line += 1 + bytes.Count(text, []byte("\n"))
	}
	r.text = b.Bytes()
	if r.text == nil {
		r.text = []byte{}
	}
	return nil
}

// file is what was rendered as a file of the snapshot, under the name of the
// kustomization.
func (r *rendered) file(t *tree) manifests.File {
	sum := sha256.Sum256(r.text)
	return manifests.File{
		Path: t.shown(r.name), Hash: rendering + ":" + hex.EncodeToString(sum[:]),
		Read:  func() ([]byte, error) { return bytes.Clone(r.text), nil },
		Trace: newTracer(t, r).trace,
	}
}

// failure is what kustomize says, in paths that a person knows.
func (t *tree) failure(n *node, err error) manifests.Diagnostic {
	message := strings.ReplaceAll(err.Error(), top+"/", "")
	message = strings.ReplaceAll(message, "'"+top+"'", "the top of the source")
	message = strings.Join(strings.Fields(message), " ")
	if t.shows(err.Error(), n.dir) || t.shows(message, n.dir) {
		message = "what kustomize says has values of secrets in it; run kustomize build to see it"
	}
	const most = 400
	if runes := []rune(message); len(runes) > most {
		message = string(runes[:most]) + "…"
	}
	return manifests.Diagnostic{
		Code: manifests.CodeKustomization, Message: "cannot be rendered: " + message, Object: "Kustomization",
		Position: manifests.Position{Source: t.source, File: t.shown(n.file()), Line: 1, Column: 1, Document: 1},
		Excerpt:  n.lineText(1), Width: 1,
	}
}
