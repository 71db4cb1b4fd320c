package manifests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/support"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// parsed is an object as read from a document, without its file: the same
// content may lie in several.
type parsed struct {
	key      schema.Key
	name     string // "Pod shop/web"
	object   schema.Object
	declared []byte
	hash     string
	document int
	places   *places
}

// parser reads one document.
type parser struct {
	doc      *document
	scratch  *scratch
	masked   bool
	aliased  int // values reached through aliases
	objects  []*parsed
	findings []Diagnostic
}

var secretKind = regexp.MustCompile(`kind["']?\s*:\s*["']?Secret`)

// mayHoldSecrets reports whether any part of a text may be a secret's.
func mayHoldSecrets(text []byte) bool {
	return bytes.Contains(text, []byte("Secret")) && secretKind.Match(text)
}

// parseDocument reads all objects of one document.
func parseDocument(doc *document) ([]*parsed, []Diagnostic) {
	p := &parser{doc: doc, scratch: scratches.Get().(*scratch), masked: mayHoldSecrets(doc.text)}
	defer p.scratch.release()
	root, ok := p.nodes()
	if !ok {
		return nil, p.findings
	}
	if deep := tooDeep(root, 0); deep != nil {
		p.newDecoder("").report(deep, Diagnostic{Code: codeDepth, Message: fmt.Sprintf("nested more than %d deep", maxDepth)})
		return nil, p.findings
	}
	p.read(root, kschema.GroupVersionKind{}, 0)
	doc.lines = nil
	if p.aliased > maxAliasedNodes {
		p.objects = nil
	}
	return p.objects, p.findings
}

// nodes parses the document's text. It reports false when there is nothing to
// read in it.
func (p *parser) nodes() (*yaml.Node, bool) {
	if root, ok := p.scratch.block.Read(string(p.doc.text)); ok {
		return root, !isNull(root)
	}
	dec := yaml.NewDecoder(bytes.NewReader(jsonEscapes(p.doc.text)))
	var n yaml.Node
	if err := dec.Decode(&n); err != nil {
		if !errors.Is(err, io.EOF) {
			p.syntax(err)
		}
		return nil, false
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("yaml: line %d: more than one value in a document", more.Line)
		}
		p.syntax(err)
		return nil, false
	}
	root, _ := follow(n.Content[0])
	return root, !isNull(root)
}

func tooDeep(n *yaml.Node, depth int) *yaml.Node {
	if depth > maxDepth {
		return n
	}
	for _, c := range n.Content {
		if deep := tooDeep(c, depth+1); deep != nil {
			return deep
		}
	}
	return nil
}

func (p *parser) newDecoder(object string) *decoder {
	return &decoder{doc: p.doc, scratch: p.scratch, object: object, masked: p.masked, sink: &p.findings, aliased: &p.aliased}
}

// read takes one object or list. The kind is what a typed list's items have
// when they do not say.
func (p *parser) read(n *yaml.Node, implied kschema.GroupVersionKind, depth int) {
	d := p.newDecoder("")
	if n.Kind != yaml.MappingNode {
		d.report(n, Diagnostic{Code: codeNoObject, Message: "expected an object with apiVersion, kind and metadata, found " + typeOf(n)})
		return
	}
	h, ok := p.header(d, n, implied)
	if !ok {
		return
	}
	if h.list {
		p.list(d, n, h, depth)
		return
	}
	p.object(n, h)
}

// list takes the items of a List, or of a typed one such as PodList.
func (p *parser) list(d *decoder, n *yaml.Node, h header, depth int) {
	if depth >= maxListDepth {
		d.report(n, Diagnostic{Code: codeDepth, Message: fmt.Sprintf("lists within lists more than %d deep", maxListDepth)})
		return
	}
	var implied kschema.GroupVersionKind
	if item := strings.TrimSuffix(h.gvk.Kind, "List"); item != "" {
		implied = h.gvk.GroupVersion().WithKind(item)
	}
	pairs := d.pairs(n)
	defer d.scratch.give(pairs)
	for _, pr := range pairs {
		switch pr.key {
		case "apiVersion", "kind", "metadata":
		case "items":
			if pr.value.Kind != yaml.SequenceNode {
				if !isNull(pr.value) {
					d.report(pr.value, Diagnostic{Code: codeWrongType, Message: "items: expected list, found " + typeOf(pr.value)})
				}
				continue
			}
			for _, item := range pr.value.Content {
				item, aliased := follow(item)
				if aliased && !d.countAliased(item, 1) {
					return
				}
				p.read(item, implied, depth+1)
			}
		default:
			d.unknownField(pr, &plan{names: []string{"items"}}, 0)
		}
	}
}

// object decodes, defaults and validates one object.
func (p *parser) object(n *yaml.Node, h header) {
	d := p.newDecoder(h.name)
	d.kind, d.secret = h.kind, h.kind == schema.Secrets
	obj := h.kind.New()
	d.json, d.places = p.scratch.json[:0], p.scratch.places.empty()
	defer func() { p.scratch.json, p.scratch.places = d.json, d.places }()
	d.places.add(-1, 0, d.line(n), n.Column)
	v := reflect.ValueOf(obj).Elem()
	before := len(p.findings)
	d.value(n, v, planFor(v.Type()), support.For(h.kind.Resource), 0)
	d.checkMeta(obj, p.findings[before:])
	if unreadable(p.findings[before:]) {
		return
	}
	declared, err := declare(obj, d.json)
	if err != nil {
		d.report(n, Diagnostic{Code: codeBadValue, Message: err.Error()})
		return
	}
	if len(declared) > maxObjectBytes {
		d.report(n, Diagnostic{Code: codeTooBig, Message: fmt.Sprintf("the object has %d bytes; at most %d fit", len(declared), maxObjectBytes)})
		return
	}
	validation.Default(obj)
	p.findings = append(p.findings[:before], d.validate(obj, p.findings[before:])...)
	sum := sha256.Sum256(declared)
	p.objects = append(p.objects, &parsed{
		key: schema.KeyOf(obj), name: h.name, object: obj, declared: slices.Clone(declared),
		hash: hex.EncodeToString(sum[:16]), document: p.doc.number, places: d.places.clone(),
	})
}

// unreadable reports whether a finding means that the object is not as it was
// written, so that there is no point in judging it further.
func unreadable(findings []Diagnostic) bool {
	for _, f := range findings {
		if f.Severity == Error && f.Code != codeUnsupported {
			return true
		}
	}
	return false
}

// mayHoldName reports whether a finding is about a field that could not be
// read, and in which the object's name may be.
func mayHoldName(f Diagnostic) bool {
	switch f.Code {
	case codeUnknownField:
		return strings.Contains(f.Suggestion, `"metadata"`) || strings.Contains(f.Suggestion, `"name"`)
	case codeWrongType:
		return strings.HasPrefix(f.Message, "metadata: ")
	}
	return false
}

// checkMeta holds metadata against the rules for manifests. Where findings say
// that something could not be read, the name may have been in it.
func (d *decoder) checkMeta(obj schema.Object, findings []Diagnostic) {
	if obj.GetGenerateName() != "" {
		d.reportAt("metadata.generateName", Diagnostic{Code: codeGenerateName, Message: "metadata.generateName cannot be declared: every read would make another object", Suggestion: "give metadata.name"})
	} else if obj.GetName() == "" && !slices.ContainsFunc(findings, mayHoldName) {
		d.reportAt("metadata.name", Diagnostic{Code: codeIncomplete, Message: "missing metadata.name"})
	}
	if !d.kind.Namespaced && obj.GetNamespace() != "" {
		d.reportAt("metadata.namespace", Diagnostic{Code: codeNamespace, Message: d.kind.GVK.Kind + " objects belong to no namespace", Suggestion: "remove it"})
	}
}

// declare completes the canonical JSON of an object: a secret's stringData is
// folded into data.
func declare(obj schema.Object, text []byte) ([]byte, error) {
	secret, ok := obj.(*corev1.Secret)
	if !ok || len(secret.StringData) == 0 {
		return text, nil
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("read back %s: %w", schema.KeyOf(obj), err)
	}
	data := maps.Clone(secret.Data)
	if data == nil {
		data = map[string][]byte{}
	}
	for k, v := range secret.StringData {
		data[k] = []byte(v)
	}
	tree["data"] = data
	delete(tree, "stringData")
	return json.Marshal(tree)
}
