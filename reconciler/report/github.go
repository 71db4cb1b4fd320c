package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

// What GitHub shows of one step's and one job's annotations; the rest it drops
// without a word (docs.github.com, "Problem matchers: limitations").
const (
	maxOfKind      = 10
	maxAnnotations = 50
)

// annotation is one workflow command of GitHub Actions.
type annotation struct {
	kind    string // error, warning, notice
	title   string
	place   manifests.Position
	width   int
	message string
}

// writeGitHub is for a step of GitHub Actions: annotations at the lines, then
// the report for whoever reads the log, and a page for the run's summary.
func writeGitHub(w io.Writer, v view) error {
	shown, dropped := limited(v.annotations())
	for _, a := range shown {
		io.WriteString(w, v.command(a)+"\n")
	}
	for _, kind := range []string{"error", "warning"} {
		if n := dropped[kind]; n > 0 {
			fmt.Fprintf(w, "and %s that GitHub does not annotate; all are below\n", counted(n, "more "+kind))
		}
	}
	io.WriteString(w, "::group::Report\n")
	plain := v
	plain.opts.Color, plain.opts.Width = false, 0
	if err := writeText(w, plain); err != nil {
		return err
	}
	io.WriteString(w, "::endgroup::\n"+v.verdict()+"\n")
	if v.opts.Summary == "" {
		return nil
	}
	return v.addSummary()
}

// annotations are errors first, then warnings, and the plan as a notice.
func (v view) annotations() []annotation {
	var errs, warnings []annotation
	for _, d := range v.report.Findings {
		a := annotation{kind: d.Severity.String(), title: d.Code, place: d.Position, width: d.Width, message: d.Message}
		if d.Object != "" {
			a.title += " " + d.Object
		}
		if d.Suggestion != "" {
			a.message += "\n" + d.Suggestion
		}
		if d.Severity == manifests.Error {
			errs = append(errs, a)
		} else {
			warnings = append(warnings, a)
		}
	}
	if v.report.Plan != nil && v.report.Plan.Effects != nil {
		for _, u := range v.report.Plan.Effects.Unfit {
			warnings = append(warnings, annotation{kind: "warning", title: u.Object + " does not fit", message: counted(u.Pods, "pod") + ": " + u.Reason})
		}
	}
	for _, p := range v.blocked {
		errs = append(errs, annotation{kind: "error", title: p.title + " cannot be applied", place: p.place, message: p.message})
	}
	out := append(errs, warnings...)
	if held := v.held(); held != "" {
		out = append([]annotation{{kind: "error", title: "The plan is held", message: held}}, out...)
	}
	if v.report.Plan != nil {
		out = append(out, annotation{kind: "notice", title: "Plan", message: v.verdict()})
	}
	return out
}

// limited keeps what GitHub shows and counts the rest by kind.
func limited(all []annotation) (shown []annotation, dropped map[string]int) {
	dropped = map[string]int{}
	of := map[string]int{}
	for _, a := range all {
		if of[a.kind] == maxOfKind || len(shown) == maxAnnotations {
			dropped[a.kind]++
			continue
		}
		of[a.kind]++
		shown = append(shown, a)
	}
	return shown, dropped
}

// command writes a workflow command.
func (v view) command(a annotation) string {
	var properties []string
	add := func(name, value string) { properties = append(properties, name+"="+property.Replace(value)) }
	if a.place.File != "" {
		add("file", v.path(a.place))
		if a.place.Line > 0 {
			add("line", fmt.Sprint(a.place.Line))
		}
		if a.place.Column > 0 {
			add("col", fmt.Sprint(a.place.Column))
			add("endColumn", fmt.Sprint(a.place.Column+max(a.width, 1)))
		}
	}
	add("title", a.title)
	return "::" + a.kind + " " + strings.Join(properties, ",") + "::" + data.Replace(a.message)
}

// How workflow commands are escaped (actions/toolkit, command.ts).
var (
	data     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// maxSummary is how much a step may add to the summary, 1 MiB, less some room.
const maxSummary = 1<<20 - 1<<10

// addSummary adds to the run's summary, to which other steps write too.
func (v view) addSummary() error {
	var b bytes.Buffer
	v.markdown(&b, maxSummary)
	f, err := os.OpenFile(v.opts.Summary, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("step summary: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("step summary: %w", err)
	}
	return nil
}
