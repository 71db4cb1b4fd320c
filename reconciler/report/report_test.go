package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/reconciler/report"
	"github.com/evenkeel/evenkeel/schema"
)

var update = flag.Bool("update", false, "rewrite testdata")

func at(file string, line, column int) manifests.Position {
	return manifests.Position{Source: "ops-1", File: file, Line: line, Column: column, Document: 1}
}

var sources = []report.Source{{Name: "ops-1", Location: "/checkout//manifests", Revision: "0123456789abcdef0123", Objects: 3}}

// hostile is what a manifest may try on whoever reads the report.
const hostile = "a|b `c` ``` <script> \x1b[31m %0A @all\n::error::x ]]> \u202e"

// wrong is a run that found errors.
var wrong = report.Report{
	Sources: sources, ExitCode: 1,
	Findings: manifests.Diagnostics{
		{
			Code: "E0104", Position: manifests.Position{Source: "ops-1", File: "apps/web.yaml", Line: 7, Column: 3, Document: 2},
			Object: "ReplicationController shop/web", Message: `unknown field "replica"`,
			Excerpt: "  replica: 5", Width: 7, Suggestion: `did you mean "replicas"?`,
		},
		{Code: "E0001", Position: at("db, old: 100%.yaml", 0, 0), Message: "cannot read the file: permission denied", Suggestion: "look at its permissions"},
		{Code: "E0106", Position: at("x.yaml", 1, 1), Object: "ConfigMap " + hostile, Message: hostile, Excerpt: hostile, Width: 3, Suggestion: hostile},
		{
			Severity: manifests.Warning, Code: "W0601", Position: at("svc.yaml", 4, 5), Object: "Service shop/web",
			Message: "the service selects nothing: no pod of the namespace has the labels app=web, tier=front", Excerpt: "    app: web", Width: 3,
			Suggestion: "the nearest are those of ReplicationController shop/website, which has app=website",
		},
	},
}

func key(kind *schema.Kind, name string) schema.Key { return kind.Key("shop", name) }

func plan() *reconciler.Plan {
	return &reconciler.Plan{
		Unchanged: 412, Moved: 1,
		Moves: []reconciler.Move{{Key: key(schema.ConfigMaps, "moved"), Source: "ops-1", From: at("old.yaml", 1, 1), To: at("new.yaml", 2, 1)}},
		Changes: []reconciler.Change{
			{Action: reconciler.Create, Key: key(schema.ConfigMaps, "web"), Source: "ops-1", Place: at("web.yaml", 1, 1)},
			{
				Action: reconciler.Update, Key: key(schema.Services, "web"), Source: "ops-1", Place: at("svc.yaml", 1, 1),
				Fields: []reconciler.FieldChange{{Path: "spec.ports[0].port", Old: "80", New: "8080", Place: at("svc.yaml", 9, 7), Exact: true}, {Path: "metadata.labels[a|b]", New: `"` + hostile + `"`}},
			},
			{
				Action: reconciler.Update, Key: key(schema.Secrets, "token"), Source: "ops-1", Place: at("token.yaml", 1, 1), Drift: true,
				Fields: []reconciler.FieldChange{{Path: "data.token", Old: "(secret 1)", New: "(secret 2)", Drift: true}},
			},
			{Action: reconciler.Replace, Key: key(schema.Pods, "job"), Source: "ops-1", Place: at("job.yaml", 3, 1)},
			{Action: reconciler.Delete, Key: key(schema.ReplicationControllers, "old"), Source: "ops-1"},
			{Action: reconciler.Adopt, Key: key(schema.Services, "known"), Source: "ops-1"},
		},
	}
}

func held() report.Report {
	p := plan()
	p.Effects = &reconciler.Effects{
		New: 5, Replaced: 3, Scheduled: true, Notes: []string{"running pods of ReplicationController shop/web stay as they are\n" + hostile},
		Unfit: []reconciler.Unfit{{Object: "ReplicationController shop/web", Pods: 2, Reason: "2 nodes have too little cpu"}},
	}
	p.Problems = []reconciler.Problem{{Key: key(schema.Pods, "db"), Place: at("db.yaml", 1, 1), Message: "the object exists and is not ours"}}
	p.Holds = []reconciler.Hold{{Source: "ops-1", Hash: "4f2a91c0", Reasons: []string{"it would delete 12 of 20 objects; --max-delete 10,30% allows 10"}}}
	return report.Report{Sources: sources, Plan: p, ExitCode: 3}
}

var cases = map[string]report.Report{
	"wrong": wrong,
	"plan":  {Sources: sources, Plan: plan(), ExitCode: 2, Findings: wrong.Findings[3:]},
	"held":  held(),
	"same":  {Sources: sources, Plan: &reconciler.Plan{Unchanged: 3}},
}

var endings = map[report.Format]string{
	report.Text: "txt", report.JSON: "jsonl", report.GitHub: "github.txt", report.SARIF: "sarif", report.JUnit: "xml", report.Markdown: "md",
}

// TestGolden shows each format of each case.
func TestGolden(t *testing.T) {
	for name, r := range cases {
		for _, format := range report.Formats {
			golden(t, name+"."+endings[format], write(t, format, r, report.Options{Root: "/checkout", Version: "1.2.3"}))
		}
	}
	golden(t, "wrong.color.txt", strings.ReplaceAll(write(t, report.Text, wrong, report.Options{Color: true, Width: 60}), "\x1b", "␛"))
	golden(t, "plan.color.txt", strings.ReplaceAll(write(t, report.Text, held(), report.Options{Color: true, Width: 60}), "\x1b", "␛"))
}

func write(t *testing.T, format report.Format, r report.Report, opts report.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, format, r, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestParse reads what programs read.
func TestParse(t *testing.T) {
	for name, r := range cases {
		for line := range strings.Lines(write(t, report.JSON, r, report.Options{})) {
			var head struct {
				V    int
				Type string
			}
			if err := json.Unmarshal([]byte(line), &head); err != nil || head.V != 1 || head.Type == "" {
				t.Errorf("%s: line %q: %v", name, line, err)
			}
		}
		if err := json.Unmarshal([]byte(write(t, report.SARIF, r, report.Options{})), &map[string]any{}); err != nil {
			t.Errorf("%s: sarif: %v", name, err)
		}
		d := xml.NewDecoder(strings.NewReader(write(t, report.JUnit, r, report.Options{})))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: junit: %v", name, err)
			}
		}
	}
}

// TestNothingEscapes: no value of a manifest begins a line or reaches a
// terminal as more than text.
func TestNothingEscapes(t *testing.T) {
	for name, r := range cases {
		for _, format := range report.Formats {
			out := write(t, format, r, report.Options{})
			if strings.ContainsAny(out, "\x1b\r\u202e") {
				t.Errorf("%s as %s has control characters", name, format)
			}
			if strings.Contains(out, "\n::error::x") {
				t.Errorf("%s as %s has a command of the manifest's", name, format)
			}
		}
	}
}

func TestWidth(t *testing.T) {
	out := write(t, report.Text, report.Report{Findings: wrong.Findings[3:]}, report.Options{Width: 80})
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestLimits: GitHub drops what is above without a word; we count it.
func TestLimits(t *testing.T) {
	var r report.Report
	for i := range 40 {
		r.Findings = append(r.Findings, manifests.Diagnostic{Code: "E0104", Position: at("a.yaml", i+1, 1), Message: "wrong"})
	}
	out := write(t, report.GitHub, r, report.Options{})
	if n := strings.Count(out, "::error "); n != 10 {
		t.Errorf("%d annotations, want 10", n)
	}
	if want := "and 30 more errors that GitHub does not annotate"; !strings.Contains(out, want) {
		t.Errorf("no %q in:\n%s", want, out[:2000])
	}
	for i := range 4000 {
		r.Findings = append(r.Findings, manifests.Diagnostic{Code: "E0104", Position: at("b.yaml", i+1, 1), Message: "wrong"})
	}
	out = write(t, report.Markdown, r, report.Options{})
	if len(out) > 65_536 || !strings.Contains(out, "more, which do not fit here") || !strings.HasSuffix(out, "</details>\n\n") {
		t.Errorf("a comment of %d bytes that ends in %q", len(out), out[len(out)-200:])
	}
}

func TestStepSummary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "summary")
	if err := os.WriteFile(file, []byte("of another step\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, report.GitHub, wrong, report.Options{Summary: file})
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), "of another step\n### Evenkeel: errors\n") {
		t.Errorf("summary:\n%s", got)
	}
	var b bytes.Buffer
	err = report.Write(&b, report.GitHub, wrong, report.Options{Summary: filepath.Dir(file)})
	if err == nil {
		t.Error("a summary that cannot be written is no error")
	}
}

func TestOptions(t *testing.T) {
	env := map[string]string{"GITHUB_WORKSPACE": "/checkout", "GITHUB_STEP_SUMMARY": "/tmp/s"}
	got := report.For(&bytes.Buffer{}, func(name string) string { return env[name] })
	if diff := cmp.Diff(report.Options{Root: "/checkout", Summary: "/tmp/s"}, got); diff != "" {
		t.Error(diff)
	}
	var f report.Format
	if err := f.Set("yaml"); fmt.Sprint(err) != "must be one of text, json, github, sarif, junit, markdown" {
		t.Error(err)
	}
	if err := f.Set("sarif"); err != nil || f != report.SARIF {
		t.Error(f, err)
	}
}
