// Package report writes what a run found and what it would do: for a person,
// for a program, and in the forms that CI systems show. `reconcile --dry-run`
// calls it.
//
// It decides nothing and prints only what findings and plans say, in which
// secrets are already masked; it never looks at an object itself. What stands
// in manifests is escaped in every format, so that none of it can pass for the
// format's own marks.
package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
)

// Report is what there is to say of one run.
type Report struct {
	Sources  []Source
	Findings manifests.Diagnostics
	Plan     *reconciler.Plan // nil where errors leave none
	ExitCode int              // that the process will have
}

// Source is one source as it was read.
type Source struct {
	Name     string // as in findings' positions
	Location string // as a person would write it
	Revision string
	Objects  int
}

// Options say how a report is written.
type Options struct {
	Color bool // of text
	Width int  // of text in columns; 0 is as wide as it gets

	// Root is the directory that paths in CI formats are relative to: the
	// checkout. Default: paths are relative to their source.
	Root string

	// Version of this program, where a format has a place for it.
	Version string

	// Summary is where the github format adds a page in Markdown, or "".
	Summary string
}

// Format is how a report is written.
type Format string

// The formats.
const (
	Text     Format = "text"
	JSON     Format = "json"
	GitHub   Format = "github"
	SARIF    Format = "sarif"
	JUnit    Format = "junit"
	Markdown Format = "markdown"
)

// Formats are all formats, the default first.
var Formats = []Format{Text, JSON, GitHub, SARIF, JUnit, Markdown}

// String is the format's name. String, Set and Type make a Format the value of
// a flag.
func (f *Format) String() string { return string(*f) }

// Type says in help what the flag takes.
func (f *Format) Type() string { return "FORMAT" }

// Set takes the name of a format, or says which there are.
func (f *Format) Set(name string) error {
	if !slices.Contains(Formats, Format(name)) {
		return fmt.Errorf("must be one of %s", names())
	}
	*f = Format(name)
	return nil
}

func names() string {
	var out []string
	for _, f := range Formats {
		out = append(out, string(f))
	}
	return strings.Join(out, ", ")
}

var writers = map[Format]func(io.Writer, view) error{
	Text: writeText, JSON: writeJSON, GitHub: writeGitHub, SARIF: writeSARIF, JUnit: writeJUnit, Markdown: writeMarkdown,
}

// Write writes a report in a format. Nothing is written in parts: what fails
// before it is complete is not written at all.
func Write(w io.Writer, format Format, r Report, opts Options) error {
	write, ok := writers[format]
	if !ok {
		return fmt.Errorf("write report: unknown format %q", format)
	}
	var b bytes.Buffer
	if err := write(&b, newView(r, opts)); err != nil {
		return fmt.Errorf("write %s report: %w", format, err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write %s report: %w", format, err)
	}
	return nil
}

// For returns the options that suit a stream: colour and width if it is a
// terminal (unless NO_COLOR is set, see no-color.org), and of a CI system where
// its checkout lies and where its summary goes.
func For(w io.Writer, getenv func(string) string) Options {
	opts := Options{Summary: getenv("GITHUB_STEP_SUMMARY")}
	for _, name := range []string{"GITHUB_WORKSPACE", "CI_PROJECT_DIR"} {
		if opts.Root == "" {
			opts.Root = getenv(name)
		}
	}
	if opts.Root == "" {
		opts.Root, _ = os.Getwd() // unknown: paths stay relative to their source
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		opts.Color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			opts.Width = width
		}
	}
	return opts
}

// path is a file of a source as CI systems want it: relative to the checkout
// if it lies there, and otherwise to its source.
func (v view) path(p manifests.Position) string {
	root := v.opts.Root
	if root == "" || p.File == "" {
		return p.File
	}
	for _, s := range v.report.Sources {
		if s.Name != p.Source || !filepath.IsAbs(s.Location) {
			continue
		}
		repository, within, _ := strings.Cut(s.Location, "//")
		rel, err := filepath.Rel(root, filepath.Join(repository, within, p.File))
		if err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return p.File
}
