package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

// The parts of SARIF 2.1.0 that we use
// (docs.oasis-open.org/sarif/sarif/v2.1.0).
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		ColumnKind  string            `json:"columnKind"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string        `json:"id"`
		ShortDescription sarifMessage  `json:"shortDescription"`
		FullDescription  *sarifMessage `json:"fullDescription,omitempty"`
		Help             sarifMessage  `json:"help"`
		Configuration    sarifLevel    `json:"defaultConfiguration"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		ExecutionSuccessful bool `json:"executionSuccessful"`
		ExitCode            int  `json:"exitCode"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifMessage      `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine   int           `json:"startLine"`
		StartColumn int           `json:"startColumn,omitempty"`
		EndColumn   int           `json:"endColumn,omitempty"`
		Snippet     *sarifMessage `json:"snippet,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

// planRule is the rule of what cannot be applied, which has no code.
const planRule = "plan"

// writeSARIF is for code scanning.
func writeSARIF(w io.Writer, v view) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "evenkeel", Version: v.opts.Version, Rules: []sarifRule{}}},
		ColumnKind:  "unicodeCodePoints",
		Invocations: []sarifInvocation{{ExecutionSuccessful: true, ExitCode: v.report.ExitCode}},
		Results:     []sarifResult{},
	}
	findings := v.sarifFindings()
	index := map[string]int{}
	for _, d := range findings {
		if _, ok := index[d.Code]; !ok {
			index[d.Code] = 0
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule(d))
		}
	}
	slices.SortFunc(run.Tool.Driver.Rules, func(a, b sarifRule) int { return strings.Compare(a.ID, b.ID) })
	for i, r := range run.Tool.Driver.Rules {
		index[r.ID] = i
	}
	for _, d := range findings {
		run.Results = append(run.Results, v.result(d, index[d.Code]))
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// sarifFindings are the findings, and what the plan has to complain of.
func (v view) sarifFindings() []manifests.Diagnostic {
	out := slices.Clone(v.report.Findings)
	for _, p := range v.blocked {
		out = append(out, manifests.Diagnostic{Code: planRule, Position: p.place, Object: p.title, Message: p.message})
	}
	return out
}

func rule(d manifests.Diagnostic) sarifRule {
	r := sarifRule{ID: d.Code, ShortDescription: sarifMessage{d.Code}, Configuration: sarifLevel{d.Severity.String()}}
	r.Help = sarifMessage{"reconcile explain " + d.Code}
	if page, ok := manifests.PageOf(d.Code); ok {
		r.ShortDescription.Text, r.FullDescription = page.Title, &sarifMessage{page.About}
	}
	if d.Code == planRule {
		r.ShortDescription.Text = "an object cannot be applied"
		r.Help.Text = "the object is as Kubernetes wants it, but what runs stands in its way"
	}
	return r
}

func (v view) result(d manifests.Diagnostic, ruleIndex int) sarifResult {
	path := v.path(d.Position)
	message := d.Message
	if d.Suggestion != "" {
		message += "; " + d.Suggestion
	}
	at := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{URI: uri(path), Base: "%SRCROOT%"}, Region: region(d)}}
	if d.Object != "" {
		at.Logical = []sarifLogical{{Name: d.Object, Kind: "object"}}
	}
	// Without the line, so that a finding stays the same one when it moves.
	sum := sha256.Sum256([]byte(strings.Join([]string{d.Code, path, d.Object, d.Message}, "\x00")))
	return sarifResult{
		RuleID: d.Code, RuleIndex: ruleIndex, Level: d.Severity.String(), Message: sarifMessage{message},
		Locations: []sarifLocation{at}, Fingerprints: map[string]string{"evenkeel/v1": hex.EncodeToString(sum[:16])},
	}
}

// uri is a relative path as a reference (RFC 3986, 4.2). What has no file is
// found where all is.
func uri(path string) string {
	if path == "" {
		path = "."
	}
	return (&url.URL{Path: path}).String()
}

func region(d manifests.Diagnostic) *sarifRegion {
	if d.Position.Line == 0 {
		return nil
	}
	r := &sarifRegion{StartLine: d.Position.Line, StartColumn: d.Position.Column}
	if d.Position.Column > 0 {
		r.EndColumn = d.Position.Column + max(d.Width, 1)
	}
	if d.Excerpt != "" {
		r.Snippet = &sarifMessage{d.Excerpt}
	}
	return r
}
