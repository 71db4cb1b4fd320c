package manifests

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/support"
)

// decoder fills one object from its nodes, and in the same pass writes the
// canonical JSON of what was declared, notes every field's place, and refuses
// what Kubernetes does not know and what Evenkeel does not support.
type decoder struct {
	doc    *document
	kind   *schema.Kind
	object string // for findings
	secret bool
	masked bool // the whole document may hold secrets

	scratch *scratch
	json    []byte
	places  places
	sink    *[]Diagnostic // findings of the document
	aliased *int          // values of the document reached through aliases
	inAlias int
}

// serverFields of metadata are set by a server alone; exported manifests
// carry them.
var serverFields = []string{
	"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation",
	"managedFields", "resourceVersion", "selfLink", "uid",
}

// value reads any node. at is its place, already added.
func (d *decoder) value(n *yaml.Node, v reflect.Value, p *plan, f *support.Field, at int32) {
	if len(*d.sink) >= maxFindingsInDoc || !d.checkTag(n) {
		return
	}
	if d.inAlias > 0 && !d.countAliased(n, 1) {
		return
	}
	v = settable(v)
	switch {
	case n.Kind == yaml.MappingNode && p.form == formStruct:
		d.structure(n, v, p, f, at)
	case n.Kind == yaml.MappingNode && p.form == formMap:
		d.mapping(n, v, p, f, at)
	case n.Kind == yaml.SequenceNode && p.form == formList:
		d.list(n, v, p, f, at)
	case n.Kind == yaml.ScalarNode:
		before := len(d.json)
		if d.scalar(n, v, p, at) {
			d.checkValue(n, f, at, d.json[before:])
		}
	default:
		d.expected(n, at, wanted(p))
	}
}

func wanted(p *plan) string {
	switch p.form {
	case formStruct, formMap:
		return typeMapping
	case formList:
		return typeList
	case formBool:
		return typeBoolean
	case formInt:
		return typeInteger
	case formQuantity:
		return "quantity"
	case formIntOrString:
		return "integer or string"
	}
	return typeString
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, p *plan, f *support.Field, at int32) {
	d.json = append(d.json, '{')
	first := len(d.json)
	root := at == 0
	pairs := d.implied(d.pairs(n), n, p, at)
	defer d.scratch.give(pairs)
	for _, pr := range pairs {
		field, known := p.fields[pr.key]
		switch {
		case !known:
			d.unknownField(pr, p, at)
			continue
		case isNull(pr.value):
			continue
		case root && pr.key == "status":
			d.dropStatus(pr)
			continue
		case p.typ == objectMetaType && slices.Contains(serverFields, pr.key):
			d.report(pr.keyNode, Diagnostic{Severity: Warning, Code: codeServerField, Message: "metadata." + pr.key + " is set by the system; what the manifest says is ignored", Suggestion: "remove it"})
			continue
		}
		pr.key = field.name // one string for all objects
		stands := standsAt(pr)
		child := d.places.addField(at, field, d.line(stands), stands.Column)
		below := f.Child(pr.key)
		if root && (pr.key == "apiVersion" || pr.key == "kind") {
			below = support.Everything
		}
		if below == nil {
			if pr.key != "generateName" { // which has a finding of its own
				d.report(pr.keyNode, Diagnostic{Code: codeUnsupported, Message: "valid Kubernetes, not supported here yet: " + d.places.path(child)})
			}
			below = support.Everything
		}
		d.key(first, pr.key)
		d.descend(pr, v.FieldByIndex(field.index), field.plan, below, child)
	}
	d.json = append(d.json, '}')
}

// implied adds what is not written and yet declared: the kind of a typed
// list's items, and the default namespace.
func (d *decoder) implied(pairs []pair, n *yaml.Node, p *plan, at int32) []pair {
	switch {
	case at == 0:
		apiVersion, kind := d.kind.GVK.ToAPIVersionAndKind()
		pairs = imply(pairs, n, "apiVersion", apiVersion)
		pairs = imply(pairs, n, "kind", kind)
	case p.typ == objectMetaType && d.places.all[at].parent == 0 && d.kind.Namespaced:
		pairs = imply(pairs, n, "namespace", metav1.NamespaceDefault)
	}
	return pairs
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, p *plan, f *support.Field, at int32) {
	d.json = append(d.json, '{')
	first := len(d.json)
	pairs := d.pairs(n)
	defer d.scratch.give(pairs)
	m := reflect.MakeMapWithSize(v.Type(), len(pairs))
	key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	for _, pr := range pairs {
		stands := standsAt(pr)
		child := d.places.addKey(at, pr.key, d.line(stands), stands.Column)
		below := f.Child(pr.key)
		if below == nil {
			d.report(pr.keyNode, Diagnostic{Code: codeUnsupported, Message: "valid Kubernetes, not supported here yet: " + d.places.path(child)})
			below = support.Everything
		}
		d.key(first, pr.key)
		elem.SetZero()
		if isNull(pr.value) {
			d.zero(p.elem)
		} else {
			d.descend(pr, elem, p.elem, below, child)
		}
		key.SetString(pr.key)
		m.SetMapIndex(key, elem)
	}
	v.Set(m)
	d.json = append(d.json, '}')
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, p *plan, f *support.Field, at int32) {
	d.json = append(d.json, '[')
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		if i > 0 {
			d.json = append(d.json, ',')
		}
		item, aliased := follow(item)
		child := d.places.add(at, i, d.line(item), item.Column)
		if isNull(item) {
			d.zero(p.elem)
			continue
		}
		d.descend(pair{value: item, aliased: aliased}, s.Index(i), p.elem, f.Item(), child)
	}
	v.Set(s)
	d.json = append(d.json, ']')
}

// descend is value, with account of aliases.
func (d *decoder) descend(pr pair, v reflect.Value, p *plan, f *support.Field, at int32) {
	if pr.aliased {
		d.inAlias++
		defer func() { d.inAlias-- }()
	}
	d.value(pr.value, v, p, f, at)
}

// standsAt is the node that is the place of a key: its value if that is a
// scalar.
func standsAt(pr pair) *yaml.Node {
	if pr.value.Kind == yaml.ScalarNode && !isNull(pr.value) {
		return pr.value
	}
	return pr.keyNode
}

func (d *decoder) key(first int, name string) {
	if len(d.json) > first {
		d.json = append(d.json, ',')
	}
	d.appendString(name)
	d.json = append(d.json, ':')
}

// checkTag refuses tags that Kubernetes does not read.
func (d *decoder) checkTag(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	switch n.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!timestamp":
		return true
	}
	d.report(n, Diagnostic{Code: codeTag, Message: "the tag " + n.Tag + " is not read", Suggestion: "remove it"})
	return false
}

// checkValue refuses values that Kubernetes takes and Evenkeel does not.
func (d *decoder) checkValue(n *yaml.Node, f *support.Field, at int32, canonical []byte) {
	if !f.Limited() {
		return
	}
	value := n.Value
	if typeOf(n) == typeBoolean || typeOf(n) == typeInteger {
		value = string(canonical)
	}
	if f.Allows(value) {
		return
	}
	suggestion := ""
	if values := f.Values(); len(values) > 0 {
		suggestion = "supported: " + strings.Join(values, ", ")
	}
	d.report(n, Diagnostic{Code: codeUnsupported, Message: "valid Kubernetes, not supported here yet: " + d.places.path(at) + ": " + n.Value, Suggestion: suggestion})
}

func (d *decoder) unknownField(pr pair, p *plan, at int32) {
	diag := Diagnostic{Code: codeUnknownField, Message: fmt.Sprintf("unknown field %q", pr.key)}
	if name := nearestField(pr.key, p.names); name != "" {
		diag.Suggestion = fmt.Sprintf("did you mean %q?", name)
	} else if above := d.places.path(at); above != "" {
		diag.Message += " in " + above
	}
	d.report(pr.keyNode, diag)
}

// dropStatus leaves a status out, in silence where it says nothing.
func (d *decoder) dropStatus(pr pair) {
	if len(pr.value.Content) == 0 {
		return
	}
	d.report(pr.keyNode, Diagnostic{Severity: Warning, Code: codeStatusIgnored, Message: "status is observed, not declared; what the manifest says is ignored", Suggestion: "remove it"})
}
