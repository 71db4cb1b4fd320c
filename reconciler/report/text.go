package report

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
)

// How colours are switched on; each is ended by reset.
const (
	reset  = "\x1b[0m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[1;31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	blue   = "\x1b[34m"
)

// writeText is for a person. Why a plan is held is left to the error that ends
// the run.
func writeText(w io.Writer, v view) error {
	if err := v.textFindings(w); err != nil {
		return err
	}
	if v.report.Plan == nil {
		return nil // the error that ends the run counts the findings
	}
	var b bytes.Buffer
	if err := v.report.Plan.Render(&b); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		v.planLine(w, strings.TrimSuffix(line, "\n"))
	}
	return nil
}

func (v view) textFindings(w io.Writer) error {
	if len(v.report.Findings) == 0 {
		return nil
	}
	var b bytes.Buffer
	for _, d := range v.report.Findings {
		if err := v.finding(&b, d); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// finding writes one finding, its words within the width and in colours.
func (v view) finding(w io.Writer, d manifests.Diagnostic) error {
	var b bytes.Buffer
	if err := d.Render(&b); err != nil {
		return err
	}
	color := red
	if d.Severity == manifests.Warning {
		color = yellow
	}
	for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		for _, part := range v.fit(i, line) {
			if i == 0 && strings.HasPrefix(part, d.Severity.String()) {
				head, rest, _ := strings.Cut(part, "]")
				part = v.paint(color, head+"]") + v.paint(bold, rest)
			} else if i > 0 {
				part = v.excerpt(part, color)
			}
			io.WriteString(w, part+"\n")
		}
	}
	return nil
}

// margin is what stands to the left of a finding's lines: a line number and a
// bar, an arrow, or an equals sign.
var margin = regexp.MustCompile(`^ *(\d+ )?(\||-->|=)`)

// carets are the marks below a source line.
var carets = regexp.MustCompile(`^ *\^+`)

// fit breaks a line of words at the width. Source lines and places stay whole,
// because they are copied; a suggestion that does not fit beside its carets
// goes below them.
func (v view) fit(i int, line string) []string {
	width := v.opts.Width
	if width == 0 || utf8.RuneCountInString(line) <= width {
		return []string{line}
	}
	if i == 0 {
		return wrap(line, width, "  ")
	}
	left := margin.FindString(line)
	rest := line[len(left):]
	switch {
	case strings.HasSuffix(left, "="):
		return wrap(line, width, strings.Repeat(" ", len(left)+1))
	case strings.TrimSpace(left) == "|" && carets.MatchString(rest):
		marks := carets.FindString(rest)
		indent := strings.Repeat(" ", len(left)-1) + "= "
		return append([]string{left + marks}, wrap(indent+strings.TrimSpace(rest[len(marks):]), width, strings.Repeat(" ", len(indent)))...)
	}
	return []string{line}
}

func (v view) excerpt(line, color string) string {
	left := margin.FindString(line)
	rest := line[len(left):]
	if strings.TrimSpace(left) == "|" && carets.MatchString(rest) {
		return v.paint(blue, left) + v.paint(color, rest)
	}
	return v.paint(blue, left) + rest
}

// planLine colours a line of the plan by its mark.
func (v view) planLine(w io.Writer, line string) {
	color := ""
	switch mark, _, _ := strings.Cut(line, " "); mark {
	case marks[reconciler.Create]:
		color = green
	case marks[reconciler.Update], marks[reconciler.Replace]:
		color = yellow
	case marks[reconciler.Delete], "!":
		color = red
	case "does": // not fit
		color = yellow
	case "·", ">", "note:":
		color = dim
	case "Plan:", "Changed":
		color = bold
	}
	io.WriteString(w, v.paint(color, line)+"\n")
}

func (v view) paint(color, s string) string {
	if !v.opts.Color || color == "" || s == "" {
		return s
	}
	return color + s + reset
}

// wrap breaks a text between words so that no line is wider than width, unless
// one word is. All lines but the first begin with indent; the first keeps its
// own.
func wrap(s string, width int, indent string) []string {
	if width == 0 || utf8.RuneCountInString(s) <= width {
		return []string{s}
	}
	own := s[:len(s)-len(strings.TrimLeft(s, " "))]
	var lines []string
	line := own
	for _, word := range strings.Fields(s) {
		empty := strings.TrimSpace(line) == ""
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line, empty = append(lines, line), indent, true
		}
		if !empty {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
