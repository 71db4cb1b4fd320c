package manifests

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a finding stops a commit from being applied.
type Severity int

// The severities: an error stops the whole commit, a warning nothing.
const (
	Error Severity = iota
	Warning
)

func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Diagnostic is one finding about a manifest, in a person's words.
type Diagnostic struct {
	Severity Severity
	Code     string // stable: "E0104"
	Position Position
	Object   string // "Pod shop/web" as far as it is known
	Message  string

	// Excerpt is the source line, empty where there is none or where it
	// might show a secret; Width is how many characters from the column on
	// are meant.
	Excerpt string
	Width   int

	// Suggestion is what to do, when there is a likely answer.
	Suggestion string
}

// String gives the finding in one line.
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s[%s]: %s", d.Position, d.Severity, d.Code, d.Message)
	if d.Object != "" {
		fmt.Fprintf(&b, " (%s)", d.Object)
	}
	if d.Suggestion != "" {
		fmt.Fprintf(&b, "; %s", d.Suggestion)
	}
	return b.String()
}

// excerptLen is how much of a source line is shown.
const excerptLen = 100

// Render writes the finding with its place, source line and suggestion, in
// the manner of rustc.
func (d Diagnostic) Render(w io.Writer) error {
	line := strconv.Itoa(d.Position.Line)
	margin := strings.Repeat(" ", len(line)+1)
	var b strings.Builder
	fmt.Fprintf(&b, "%s[%s]: %s\n", d.Severity, d.Code, d.Message)
	if d.Position.File != "" {
		fmt.Fprintf(&b, "%s--> %s%s\n", margin, d.Position, d.where())
	}
	switch {
	case d.Excerpt != "" && d.Position.Line > 0:
		excerpt, column := window(d.Excerpt, d.Position.Column)
		fmt.Fprintf(&b, "%s |\n %s | %s\n", margin, line, excerpt)
		marks := strings.Repeat(" ", max(column-1, 0)) + strings.Repeat("^", d.marks(excerpt, column))
		fmt.Fprintf(&b, "%s | %s\n", margin, strings.TrimRight(marks+" "+d.Suggestion, " "))
	case d.Suggestion != "":
		fmt.Fprintf(&b, "%s = %s\n", margin, d.Suggestion)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// marks is how many carets fit below the excerpt.
func (d Diagnostic) marks(excerpt string, column int) int {
	room := len([]rune(excerpt)) - column + 1
	return max(1, min(d.Width, room))
}

// where is the part in brackets behind the position.
func (d Diagnostic) where() string {
	var parts []string
	if d.Position.Document > 1 {
		parts = append(parts, "document "+strconv.Itoa(d.Position.Document))
	}
	if d.Object != "" {
		parts = append(parts, d.Object)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  (" + strings.Join(parts, ", ") + ")"
}

// window cuts a long line around a column, and returns the column within it.
func window(line string, column int) (string, int) {
	runes := []rune(strings.ReplaceAll(line, "\t", " "))
	if len(runes) <= excerptLen {
		return string(runes), column
	}
	start := min(max(0, column-excerptLen/2), len(runes))
	end := min(len(runes), start+excerptLen)
	cut := string(runes[start:end])
	if start > 0 {
		cut, column = "…"+cut, column-start+1
	}
	if end < len(runes) {
		cut += "…"
	}
	return cut, column
}

// Diagnostics are findings sorted by place.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them stops the commit.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Count returns how many errors and warnings there are.
func (ds Diagnostics) Count() (errors, warnings int) {
	for _, d := range ds {
		if d.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// Render writes all findings, an empty line between them.
func (ds Diagnostics) Render(w io.Writer) error {
	for i, d := range ds {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if err := d.Render(w); err != nil {
			return err
		}
	}
	return nil
}

// Err returns nil when there is no error among the findings, and otherwise an
// error that gives the first and counts the rest.
func (ds Diagnostics) Err() error {
	n, _ := ds.Count()
	for _, d := range ds {
		if d.Severity != Error {
			continue
		}
		if n == 1 {
			return fmt.Errorf("%s", d)
		}
		return fmt.Errorf("%s (and %d more)", d, n-1)
	}
	return nil
}

// Join puts findings together, sorted by place.
func Join(parts ...Diagnostics) Diagnostics {
	all := slices.Concat(parts...)
	all.sort()
	return all
}

func (ds Diagnostics) sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Position.Source, b.Position.Source),
			cmp.Compare(a.Position.File, b.Position.File),
			cmp.Compare(a.Position.Line, b.Position.Line),
			cmp.Compare(a.Position.Column, b.Position.Column),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Message, b.Message),
		)
	})
}
