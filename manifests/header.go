package manifests

import (
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evenkeel/evenkeel/schema"
)

// header is what says which kind an object is.
type header struct {
	gvk     kschema.GroupVersionKind
	kind    *schema.Kind
	list    bool
	apiNode *yaml.Node
	node    *yaml.Node // of kind
	name    string     // "Pod shop/web" as far as known
}

// header finds the kind of an object, or says why there is none.
func (p *parser) header(d *decoder, n *yaml.Node, implied kschema.GroupVersionKind) (header, bool) {
	h := header{apiNode: child(n, "apiVersion"), node: child(n, "kind")}
	if h.apiNode == nil && h.node == nil && !implied.Empty() {
		h.gvk = implied
	} else {
		if h.apiNode == nil || h.node == nil {
			d.report(n, missingHeader(n, h))
			return h, false
		}
		h.gvk = kschema.FromAPIVersionAndKind(h.apiNode.Value, h.node.Value)
	}
	h.name = objectName(n, h.gvk.Kind)
	d.object = h.name
	if kind, ok := schema.KindFor(h.gvk); ok {
		h.kind = kind
		if !kind.Declarable {
			d.report(orNode(h.node, n), Diagnostic{Code: codeSystemKind, Message: h.gvk.Kind + " objects are made by the system and cannot be declared"})
		}
		return h, kind.Declarable
	}
	if item, ok := strings.CutSuffix(h.gvk.Kind, "List"); ok {
		_, known := schema.KindFor(h.gvk.GroupVersion().WithKind(item))
		if h.list = known || item == "" && h.gvk.GroupVersion() == corev1.SchemeGroupVersion; h.list {
			return h, true
		}
	}
	d.report(unknownKind(n, h))
	return h, false
}

// missingHeader says what an object lacks.
func missingHeader(n *yaml.Node, h header) Diagnostic {
	var missing []string
	if h.apiNode == nil {
		missing = append(missing, "apiVersion")
	}
	if h.node == nil {
		missing = append(missing, "kind")
	}
	diag := Diagnostic{Code: codeIncomplete, Message: "missing " + strings.Join(missing, " and ")}
	for i := 0; i+1 < len(n.Content); i += 2 {
		for _, want := range missing {
			if name := n.Content[i].Value; name != want && nearest(name, []string{want}) != "" {
				diag.Suggestion = fmt.Sprintf("%q is written %q", want, name)
				return diag
			}
		}
	}
	switch {
	case child(n, "resources") != nil && h.node == nil:
		diag.Code, diag.Message, diag.Suggestion = codeNoManifest, "a kustomization is no manifest", otherFormats["kustomize.config.k8s.io"]
	case h.apiNode != nil && child(n, "version") != nil:
		diag.Code, diag.Message, diag.Suggestion = codeNoManifest, "a Helm chart is no manifest", "commit what it renders"
	}
	return diag
}

// unknownKind says why an object's kind cannot be taken.
func unknownKind(n *yaml.Node, h header) (*yaml.Node, Diagnostic) {
	apiVersion, name := h.gvk.GroupVersion().String(), h.gvk.Kind
	if hint, ok := otherFormats[h.gvk.Group]; ok {
		return orNode(h.node, n), Diagnostic{Code: codeNoManifest, Message: apiVersion + " " + name + " is no manifest of Kubernetes' own", Suggestion: hint}
	}
	if isKubernetesKind(h.gvk.Group, name) && len(kindsNamed(name)) == 0 {
		return orNode(h.node, n), Diagnostic{Code: codeUnsupportedKind, Message: "valid Kubernetes, not supported here yet: " + apiVersion + " " + name}
	}
	if kinds := kindsNamed(name); len(kinds) > 0 {
		return orNode(h.apiNode, n), Diagnostic{
			Code:       codeVersion,
			Message:    fmt.Sprintf("unknown apiVersion %q for %s", apiVersion, name),
			Suggestion: fmt.Sprintf("did you mean %q?", kinds[0].GVK.GroupVersion().String()),
		}
	}
	diag := Diagnostic{Code: codeUnknownKind, Message: fmt.Sprintf("unknown kind %q of apiVersion %q", name, apiVersion), Suggestion: "known: " + strings.Join(declarableNames(), ", ")}
	if near := nearest(name, allKindNames()); near != "" {
		diag.Suggestion = fmt.Sprintf("did you mean %q?", near)
	}
	return orNode(h.node, n), diag
}

// child returns the value of a mapping's key, aliases followed, or nil where
// there is none or it says nothing.
func child(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			v, _ := follow(n.Content[i+1])
			if isNull(v) || v.Kind == yaml.ScalarNode && v.Value == "" {
				return nil
			}
			return v
		}
	}
	return nil
}

// objectName names an object in findings: "Pod shop/web".
func objectName(n *yaml.Node, kind string) string {
	name := kind
	meta := child(n, "metadata")
	if meta == nil {
		return name
	}
	var parts []string
	for _, key := range []string{"namespace", "name"} {
		if c := child(meta, key); c != nil && c.Kind == yaml.ScalarNode {
			parts = append(parts, c.Value)
		}
	}
	return strings.TrimSpace(name + " " + path.Join(parts...))
}

func orNode(n, otherwise *yaml.Node) *yaml.Node {
	if n != nil {
		return n
	}
	return otherwise
}
