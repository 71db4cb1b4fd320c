package manifests

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

func (d *decoder) expected(n *yaml.Node, at int32, what string) {
	d.report(n, Diagnostic{Code: codeWrongType, Message: d.about(at) + "expected " + what + ", found " + typeOf(n) + d.shown(n, at), Suggestion: writtenHint(n, what)})
}

var keyAndValue = regexp.MustCompile(`^[A-Za-z0-9._/-]+:[^\s/]`)

// writtenHint answers "name:web", which YAML takes for a word, and
// "{{ .Values.name }}", which it takes for a mapping.
func writtenHint(n *yaml.Node, what string) string {
	switch {
	case what == typeMapping && n.Kind == yaml.ScalarNode && n.Style&quoted == 0 && keyAndValue.MatchString(n.Value):
		return "write a space after the colon"
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && isFlowMapping(n) && isFlowMapping(n.Content[0]):
		return isTemplate
	}
	return ""
}

func isFlowMapping(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0
}

// expectedUnquoted is expected for a field whose value may only need to lose
// its quotes.
func (d *decoder) expectedUnquoted(n *yaml.Node, typ string, at int32, what string, unquote bool) {
	if typ != typeString || !unquote {
		d.expected(n, at, what)
		return
	}
	d.report(n, Diagnostic{Code: codeWrongType, Message: d.about(at) + "expected " + what + ", found string" + d.shown(n, at), Suggestion: "write " + n.Value + " without quotes"})
}

// about begins a message with the path of what it is about.
func (d *decoder) about(at int32) string {
	if path := d.places.path(at); path != "" {
		return path + ": "
	}
	return ""
}

// shown gives a value in a message, unless it may be a secret.
func (d *decoder) shown(n *yaml.Node, at int32) string {
	if n.Kind != yaml.ScalarNode || n.Value == "" || d.hidden(at) {
		return ""
	}
	value := n.Value
	if n.Style&quoted != 0 || typeOf(n) == typeString {
		value = strconv.Quote(value)
	}
	if utf8.RuneCountInString(value) > 40 {
		value = string([]rune(value)[:40]) + "…"
	}
	return " " + value
}

// hidden reports whether a place lies in a secret's data.
func (d *decoder) hidden(at int32) bool {
	if !d.secret {
		return false
	}
	path := d.places.path(at)
	return strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData")
}

func (d *decoder) line(n *yaml.Node) int { return d.doc.fileLine(n.Line) }

// report adds a finding about a node.
func (d *decoder) report(n *yaml.Node, diag Diagnostic) {
	diag.Position.Line, diag.Position.Column = d.line(n), n.Column
	diag.Width = max(1, utf8.RuneCountInString(n.Value))
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		diag.Width += 2
	}
	d.add(diag)
}

// reportAt adds a finding about a place of the object.
func (d *decoder) reportAt(path string, diag Diagnostic) {
	at, _ := d.places.find(path)
	diag.Position.Line, diag.Position.Column = at.line, at.column
	diag.Width = wordWidth(d.doc.lineText(at.line), at.column)
	d.add(diag)
}

func (d *decoder) add(diag Diagnostic) {
	diag.Object = d.object
	diag.Position.Document = d.doc.number
	if !d.secret && !d.masked {
		diag.Excerpt = d.doc.lineText(diag.Position.Line)
	}
	*d.sink = append(*d.sink, diag)
}

// wordWidth is how many characters the word at a column has.
func wordWidth(line string, column int) int {
	runes := []rune(line)
	if column < 1 || column > len(runes) {
		return 1
	}
	rest := string(runes[column-1:])
	if rest[0] == '"' || rest[0] == '\'' {
		if end := strings.IndexByte(rest[1:], rest[0]); end >= 0 {
			return utf8.RuneCountInString(rest[:end+2])
		}
	}
	end := strings.IndexAny(rest, ":,]}#")
	if end < 0 {
		end = len(rest)
	}
	return max(1, utf8.RuneCountInString(strings.TrimSpace(rest[:end])))
}
