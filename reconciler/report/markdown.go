package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

// Marker begins a report in Markdown, so that a later run finds the comment
// that it is to replace.
const Marker = "<!-- evenkeel: reconcile --dry-run -->"

// maxComment is how long a comment may be: GitHub takes 65,536 characters.
const maxComment = 60_000

// writeMarkdown is for a comment on a pull request.
func writeMarkdown(w io.Writer, v view) error {
	var b bytes.Buffer
	b.WriteString(Marker + "\n")
	v.markdown(&b, maxComment)
	_, err := w.Write(b.Bytes())
	return err
}

// markdown writes the report in at most size bytes. Everything that stands in
// manifests is in code, which nothing can break out of.
func (v view) markdown(b *bytes.Buffer, size int) {
	b.WriteString("### Evenkeel: " + v.headline() + "\n\n" + escaped(v.verdict()) + "\n\n")
	for _, s := range v.report.Sources {
		fmt.Fprintf(b, "Source %s at %s\n\n", code(clean(s.Location)), code(short(s.Revision)))
	}
	if held := v.held(); held != "" {
		b.WriteString("> **Held:** " + escaped(held) + "\n\n")
	}
	errs, warnings := v.bySeverity()
	v.section(b, size, "Errors", errs, true)
	v.section(b, size, "Warnings", warnings, false)
	v.changes(b, size)
}

func (v view) headline() string {
	errs, _ := v.report.Findings.Count()
	switch {
	case errs > 0 || len(v.blocked) > 0:
		return "errors"
	case v.held() != "":
		return "held"
	case len(v.rows) == 0:
		return "no changes"
	}
	return counted(len(v.rows), "change")
}

// bySeverity gives each finding as a few lines of text.
func (v view) bySeverity() (errs, warnings []string) {
	for _, d := range v.report.Findings {
		var b strings.Builder
		d.Position.File = v.path(d.Position)
		_ = d.Render(&b) // a strings.Builder takes all
		if d.Severity == manifests.Error {
			errs = append(errs, b.String())
		} else {
			warnings = append(warnings, b.String())
		}
	}
	for _, p := range v.blocked {
		p.place.File = v.path(p.place)
		errs = append(errs, fmt.Sprintf("error: %s: %s\n --> %s\n", p.title, p.message, p.place))
	}
	return errs, warnings
}

// section writes texts in one block that can be folded.
func (v view) section(b *bytes.Buffer, size int, title string, texts []string, open bool) {
	if len(texts) == 0 {
		return
	}
	attribute := ""
	if open {
		attribute = " open"
	}
	fmt.Fprintf(b, "<details%s><summary>%d %s</summary>\n\n", attribute, len(texts), strings.ToLower(singular(title, len(texts))))
	writeBlock(b, "text", texts, "\n", size)
	b.WriteString("\n</details>\n\n")
}

func singular(title string, n int) string {
	if n == 1 {
		return strings.TrimSuffix(title, "s")
	}
	return title
}

// changes writes the plan as a diff, which is shown in colours.
func (v view) changes(b *bytes.Buffer, size int) {
	var texts []string
	for _, r := range v.rows {
		texts = append(texts, v.diff(r))
	}
	if v.report.Plan != nil {
		for _, m := range v.report.Plan.Moves {
			_, title := name(m.Key)
			texts = append(texts, fmt.Sprintf("# moved %s  (%s → %s)\n", title, v.path(m.From), v.path(m.To)))
		}
		for _, line := range v.report.Plan.Effects.Lines() {
			texts = append(texts, "# "+line+"\n")
		}
	}
	if len(texts) == 0 {
		return
	}
	fmt.Fprintf(b, "<details><summary>%s</summary>\n\n", counted(len(v.rows), "change"))
	writeBlock(b, "diff", texts, "", size)
	b.WriteString("\n</details>\n")
}

// diffMarks are the marks that a diff knows.
var diffMarks = map[string]string{"+": "+", "-": "-", "~": "!", "±": "!"}

func (v view) diff(r row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", diffMarks[r.mark], r.action, r.title)
	if r.place.File != "" {
		fmt.Fprintf(&b, "  (%s:%d)", v.path(r.place), r.place.Line)
	}
	if r.drift {
		b.WriteString("  changed behind git's back")
	}
	b.WriteByte('\n')
	for _, f := range r.fields {
		if f.Drift && !r.drift {
			fmt.Fprintf(&b, "#   %s was changed behind git's back:\n", f.Path)
		}
		if f.Old != "" {
			fmt.Fprintf(&b, "-   %s: %s\n", f.Path, f.Old)
		}
		if f.New != "" {
			fmt.Fprintf(&b, "+   %s: %s\n", f.Path, f.New)
		}
	}
	return b.String()
}

// writeBlock writes texts as fenced code, and counts those that no longer fit.
func writeBlock(b *bytes.Buffer, language string, texts []string, between string, size int) {
	fence := strings.Repeat("`", max(3, longestRun(texts)+1))
	b.WriteString(fence + language + "\n")
	left := 0
	for i, text := range texts {
		const room = 200 // for what follows the block
		if b.Len()+len(text)+len(between)+room > size {
			left = len(texts) - i
			break
		}
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(text)
	}
	b.WriteString(fence + "\n")
	if left > 0 {
		fmt.Fprintf(b, "\nand %d more, which do not fit here: see the log\n", left)
	}
}

// longestRun is the longest run of backticks in any of the texts.
func longestRun(texts []string) int {
	longest := 0
	for _, text := range texts {
		run := 0
		for _, r := range text {
			if r != '`' {
				run = 0
				continue
			}
			run++
			longest = max(longest, run)
		}
	}
	return longest
}

// code is a word as code within a line (CommonMark 6.1).
func code(s string) string {
	if s == "" {
		return "—"
	}
	fence := strings.Repeat("`", longestRun([]string{s})+1)
	if len(fence) > 1 {
		s = " " + s + " "
	}
	return fence + s + fence
}

// escaped is a text whose characters mean only themselves; an @ addresses
// nobody.
func escaped(s string) string {
	return markdownText.Replace(s)
}

var markdownText = func() *strings.Replacer {
	pairs := []string{"&", "&amp;", "<", "&lt;", ">", "&gt;", "@", "&#64;"}
	for _, c := range "\\`*_{}[]#|~!" {
		pairs = append(pairs, string(c), "\\"+string(c))
	}
	return strings.NewReplacer(pairs...)
}()

// short is a revision as people say it.
func short(revision string) string {
	const enough = 12
	if len(revision) > enough {
		return revision[:enough]
	}
	return revision
}
