package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlError     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// Suggestions for what is no YAML and no slip.
const (
	isTemplate = "this looks like a template: commit what it renders"
	isConflict = "a merge conflict is left in the file: resolve it"
)

// syntax reports that the document could not be parsed, where the mistake is.
func (p *parser) syntax(err error) {
	place := p.jsonMistake()
	if place == nil {
		place = p.yamlMistake(err)
	}
	text := p.doc.lineText(place.line)
	if place.column == 0 {
		place.column = 1 + len(text) - len(strings.TrimLeft(text, " "))
	}
	diag := Diagnostic{Code: codeSyntax, Message: place.message, Suggestion: place.suggestion, Width: 1}
	if diag.Suggestion == "" {
		diag.Suggestion = syntaxHint(text)
	}
	diag.Position.Line, diag.Position.Column, diag.Position.Document = place.line, place.column, p.doc.number
	if !p.masked {
		diag.Excerpt = text
	}
	p.findings = append(p.findings, diag)
}

var (
	conflictMark = regexp.MustCompile(`^(<{7}|={7}|>{7})`)
	// wantsQuotes is a value that begins with a character of YAML's own, or
	// that holds what YAML takes for another key.
	wantsQuotes = regexp.MustCompile(`^\s*(- +)?[^\s:"'#]+: +([*&@%!|>` + "`" + `][^\s]|[^\s"'{\[#][^"']*: )`)
)

// syntaxHint guesses from a line why it is not YAML.
func syntaxHint(text string) string {
	switch {
	case strings.Contains(text, "{{"):
		return isTemplate
	case conflictMark.MatchString(text):
		return isConflict
	case wantsQuotes.MatchString(text):
		return "put the value in quotes"
	}
	return ""
}

// mistake is what is wrong with a document's syntax. A column of 0 is where
// the line's text begins.
type mistake struct {
	line, column        int
	message, suggestion string
}

// yamlMistake finds the place of what the parser says.
func (p *parser) yamlMistake(err error) *mistake {
	m := &mistake{message: strings.TrimPrefix(err.Error(), "yaml: "), line: p.doc.line}
	if parts := yamlError.FindStringSubmatch(err.Error()); parts != nil {
		m.message = parts[2]
		if n, err := strconv.Atoi(parts[1]); err == nil {
			m.line = p.doc.fileLine(max(n, 1))
		}
	}
	m.line = min(m.line, p.doc.line+bytes.Count(p.doc.text, []byte("\n")))
	if line, column, ok := p.indentingTab(m.line); ok && (strings.Contains(m.message, "cannot start any token") || strings.Contains(m.message, "tab character")) {
		return &mistake{line, column, "a tab cannot indent YAML", "indent with spaces"}
	}
	if parts := unknownAnchor.FindStringSubmatch(m.message); parts != nil {
		m.line, m.column = p.find("*" + parts[1])
		if p.masked {
			m.message = "unknown anchor referenced" // a password may begin with an asterisk
		}
		return m
	}
	if strings.HasPrefix(m.message, "did not find expected") || m.message == "found unexpected end of stream" {
		m.line = p.firstWrong(m)
	}
	for m.line > p.doc.line && strings.TrimSpace(p.doc.lineText(m.line)) == "" {
		m.line-- // what is missing at the end is missing after the last words
	}
	return m
}

// find returns the first place of a text.
func (p *parser) find(text string) (line, column int) {
	before, _, _ := bytes.Cut(p.doc.text, []byte(text))
	line, column = lineAndColumn(before)
	return p.doc.line + line - 1, column
}

// maxSearched bounds how large a document is parsed again to find a mistake.
const maxSearched = 256 << 10

// firstWrong returns the first line with which the document has the mistake:
// for some, the parser names only the line on which the block began.
func (p *parser) firstWrong(m *mistake) int {
	if len(p.doc.text) > maxSearched {
		return m.line
	}
	lines := bytes.SplitAfter(p.doc.text, []byte("\n"))
	n := sort.Search(len(lines)-1, func(i int) bool {
		err := parses(bytes.Join(lines[:i+1], nil))
		return err != nil && strings.HasSuffix(err.Error(), m.message)
	})
	return p.doc.line + n
}

func parses(text []byte) error {
	var n yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&n); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// jsonMistake finds the mistake of a document that begins as JSON, or returns
// nil.
func (p *parser) jsonMistake() *mistake {
	text := p.doc.text
	for line := range bytes.Lines(text) {
		trimmed := bytes.TrimSpace(line)
		if len(trimmed) > 0 && trimmed[0] != '#' && !bytes.Equal(trimmed, []byte("---")) {
			break
		}
		text = text[len(line):]
	}
	if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '[' || bytes.HasPrefix(trimmed, []byte("{{")) {
		return nil
	}
	var value any
	var wrong *json.SyntaxError
	if !errors.As(json.Unmarshal(text, &value), &wrong) || wrong.Offset < 1 {
		return nil
	}
	at := len(p.doc.text) - len(text) + int(wrong.Offset) - 1
	before := p.doc.text[:min(at, len(p.doc.text))]
	m := &mistake{message: wrong.Error()}
	m.line, m.column = lineAndColumn(before)
	m.line += p.doc.line - 1
	if p.masked {
		m.message = "not JSON"
	}
	return m
}

// indentingTab looks for a tab in the indentation of a line or its neighbours.
func (p *parser) indentingTab(line int) (tabLine, column int, ok bool) {
	for _, l := range []int{line, line - 1, line + 1} {
		text := p.doc.lineText(l)
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		if i := strings.IndexByte(indent, '\t'); i >= 0 {
			return l, i + 1, true
		}
	}
	return 0, 0, false
}
