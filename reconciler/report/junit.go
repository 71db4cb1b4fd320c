package report

import (
	"encoding/xml"
	"io"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

// JUnit's XML as Jenkins, GitLab and others read it: what the schemas of
// Surefire (surefire-test-report.xsd) and of Jenkins' xUnit plugin (junit-10.xsd)
// both allow. Neither has a place for a file and a line, which are in the names.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Seconds int           `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit is for CI systems that show tests: each finding is one, a warning
// passes, and so is each source's plan.
func writeJUnit(w io.Writer, v view) error {
	suites := junitSuites{Name: "evenkeel"}
	findings := junitSuite{Name: "manifests"}
	for _, d := range v.report.Findings {
		findings.add(v.junitFinding(d))
	}
	for _, s := range v.report.Sources {
		if !v.hasErrors(s.Name) {
			findings.add(junitCase{Class: clean(s.Location), Name: "manifests are valid"})
		}
	}
	plan := junitSuite{Name: "plan"}
	for _, p := range v.blocked {
		plan.add(junitCase{
			Class: orDefault(v.path(p.place), "plan"), Name: p.title,
			Failure: &junitFailure{Type: planRule, Message: p.message, Text: p.message},
		})
	}
	if c, ok, err := v.junitPlan(); err != nil {
		return err
	} else if ok {
		plan.add(c)
	}
	for _, s := range []junitSuite{findings, plan} {
		if s.Tests == 0 {
			continue
		}
		suites.Suites = append(suites.Suites, s)
		suites.Tests += s.Tests
		suites.Failures += s.Failures
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	out := xml.NewEncoder(w)
	out.Indent("", "  ")
	if err := out.Encode(suites); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
}

func (v view) hasErrors(source string) bool {
	for _, d := range v.report.Findings {
		if d.Severity == manifests.Error && d.Position.Source == source {
			return true
		}
	}
	return false
}

func (v view) junitFinding(d manifests.Diagnostic) junitCase {
	d.Position.File = v.path(d.Position)
	var text strings.Builder
	_ = d.Render(&text) // a strings.Builder takes all
	c := junitCase{
		Class: orDefault(d.Position.File, "manifests"), Name: d.Code + " " + d.Position.String() + " " + d.Message,
	}
	if d.Severity == manifests.Error {
		c.Failure = &junitFailure{Type: d.Code, Message: d.Message, Text: text.String()}
	} else {
		c.Out = text.String()
	}
	return c
}

// junitPlan is the plan as a test, which fails when it is held.
func (v view) junitPlan() (junitCase, bool, error) {
	if v.report.Plan == nil {
		return junitCase{}, false, nil
	}
	plain := v
	plain.report.Findings, plain.opts = nil, Options{}
	var text strings.Builder
	if err := writeText(&text, plain); err != nil {
		return junitCase{}, false, err
	}
	c := junitCase{Class: "plan", Name: "plan", Out: text.String()}
	if held := v.held(); held != "" {
		c.Failure = &junitFailure{Type: "held", Message: held, Text: text.String()}
	}
	return c, true, nil
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
