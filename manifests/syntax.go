package manifests

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// fromZero are the errors of the library's parser, whose lines it counts from
// zero, unlike those of its scanner.
var fromZero = regexp.MustCompile(`^did not find expected (<|node content|key|'-' indicator|',' or)`)

// syntax reports that the document could not be parsed, at the line that the
// parser names or at the tab that is to blame.
func (p *parser) syntax(err error) {
	diag := Diagnostic{Code: codeSyntax, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	line := 1
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		diag.Message = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
			if fromZero.MatchString(diag.Message) {
				line++
			}
		}
	}
	line = min(line+p.doc.line-1, p.doc.line+bytes.Count(p.doc.text, []byte("\n")))
	for line > p.doc.line && strings.TrimSpace(p.doc.lineText(line)) == "" {
		line-- // what is missing at the end is missing after the last words
	}
	text := p.doc.lineText(line)
	column := 1 + len(text) - len(strings.TrimLeft(text, " "))
	if tabLine, tabColumn, ok := p.indentingTab(line); ok && strings.Contains(err.Error(), "cannot start any token") {
		line, column, text = tabLine, tabColumn, p.doc.lineText(tabLine)
		diag.Message, diag.Suggestion = "a tab cannot indent YAML", "indent with spaces"
	}
	diag.Position.Line, diag.Position.Column, diag.Position.Document = line, column, p.doc.number
	if !p.masked {
		diag.Excerpt = text
	}
	diag.Width = 1
	p.findings = append(p.findings, diag)
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
