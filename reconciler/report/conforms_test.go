package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/reconciler/report"
)

// shape is what a schema says of an object or an element, as far as we use it.
type shape struct {
	required []string
	optional map[string]string // by name: the shape of what is there, "" for a value
	oneOf    []string          // of which one is required
}

// sarifShapes are from the schema of SARIF 2.1.0, whose objects have no other
// properties than those that it names.
var sarifShapes = map[string]shape{
	"sarifLog":                 {required: []string{"version", "runs"}, optional: map[string]string{"$schema": "", "version": "", "runs": "run"}},
	"run":                      {required: []string{"tool"}, optional: map[string]string{"tool": "tool", "columnKind": "", "invocations": "invocation", "results": "result"}},
	"tool":                     {required: []string{"driver"}, optional: map[string]string{"driver": "toolComponent"}},
	"toolComponent":            {required: []string{"name"}, optional: map[string]string{"name": "", "version": "", "rules": "reportingDescriptor"}},
	"reportingDescriptor":      {required: []string{"id"}, optional: map[string]string{"id": "", "shortDescription": "multiformatMessageString", "fullDescription": "multiformatMessageString", "help": "multiformatMessageString", "defaultConfiguration": "reportingConfiguration"}},
	"multiformatMessageString": {required: []string{"text"}, optional: map[string]string{"text": ""}},
	"reportingConfiguration":   {optional: map[string]string{"level": ""}},
	"invocation":               {required: []string{"executionSuccessful"}, optional: map[string]string{"executionSuccessful": "", "exitCode": ""}},
	"result":                   {required: []string{"message"}, optional: map[string]string{"ruleId": "", "ruleIndex": "", "level": "", "message": "message", "locations": "location", "partialFingerprints": "strings"}},
	"message":                  {oneOf: []string{"text", "id"}, optional: map[string]string{"text": ""}},
	"location":                 {optional: map[string]string{"physicalLocation": "physicalLocation", "logicalLocations": "logicalLocation"}},
	"physicalLocation":         {oneOf: []string{"artifactLocation", "address"}, optional: map[string]string{"artifactLocation": "artifactLocation", "region": "region"}},
	"artifactLocation":         {optional: map[string]string{"uri": "", "uriBaseId": ""}},
	"region":                   {oneOf: []string{"startLine", "charOffset", "byteOffset"}, optional: map[string]string{"startLine": "", "startColumn": "", "endColumn": "", "snippet": "artifactContent"}},
	"artifactContent":          {optional: map[string]string{"text": ""}},
	"logicalLocation":          {optional: map[string]string{"fullyQualifiedName": "", "kind": ""}},
}

// faults says where a value has not its shape.
func (s shape) faults(at string, has []string) []string {
	var out []string
	for _, name := range s.required {
		if !slices.Contains(has, name) {
			out = append(out, at+": no "+name)
		}
	}
	for _, name := range has {
		if _, ok := s.optional[name]; !ok {
			out = append(out, at+": may not have "+name)
		}
	}
	if len(s.oneOf) > 0 && !slices.ContainsFunc(s.oneOf, func(name string) bool { return slices.Contains(has, name) }) {
		out = append(out, fmt.Sprintf("%s: none of %v", at, s.oneOf))
	}
	return out
}

func sarifFaults(at, kind string, value any) []string {
	switch v := value.(type) {
	case []any:
		var out []string
		for i, item := range v {
			out = append(out, sarifFaults(fmt.Sprintf("%s[%d]", at, i), kind, item)...)
		}
		return out
	case map[string]any:
		if kind == "strings" {
			return nil
		}
		var names, out []string
		for name, item := range v {
			names = append(names, name)
			out = append(out, sarifFaults(at+"."+name, sarifShapes[kind].optional[name], item)...)
		}
		return append(out, sarifShapes[kind].faults(at, names)...)
	case string:
		levels := []string{"none", "note", "warning", "error"}
		if strings.HasSuffix(at, ".level") && !slices.Contains(levels, v) {
			return []string{at + ": may not be " + v}
		}
	case float64:
		if least := map[string]float64{"startLine": 1, "startColumn": 1, "endColumn": 1, "ruleIndex": 0}; v < least[at[strings.LastIndexByte(at, '.')+1:]] {
			return []string{fmt.Sprintf("%s: may not be %v", at, v)}
		}
	}
	return nil
}

func TestSARIFConforms(t *testing.T) {
	for name, r := range cases {
		var log any
		if err := json.Unmarshal([]byte(write(t, report.SARIF, r, report.Options{Version: "1.2.3"})), &log); err != nil {
			t.Fatal(err)
		}
		for _, fault := range sarifFaults("", "sarifLog", log) {
			t.Errorf("%s%s", name, fault)
		}
	}
}

// junitShapes are what both surefire-test-report.xsd and junit-10.xsd of
// Jenkins' xUnit plugin allow, beneath the latter's testsuites.
var junitShapes = map[string]struct {
	attributes shape
	children   []string // in this order
}{
	"testsuites": {shape{optional: map[string]string{"name": "", "time": "", "tests": "", "failures": "", "errors": ""}}, []string{"testsuite"}},
	"testsuite": {
		shape{required: []string{"name", "tests", "errors", "skipped", "failures"}, optional: map[string]string{"name": "", "time": "", "tests": "", "errors": "", "skipped": "", "failures": ""}},
		[]string{"properties", "testcase"},
	},
	"testcase": {
		shape{required: []string{"name", "time"}, optional: map[string]string{"name": "", "classname": "", "time": ""}},
		[]string{"failure", "skipped", "error", "system-out", "system-err"},
	},
	"failure":    {shape{required: []string{"type"}, optional: map[string]string{"type": "", "message": ""}}, nil},
	"system-out": {},
}

func TestJUnitConforms(t *testing.T) {
	for name, r := range cases {
		d := xml.NewDecoder(strings.NewReader(write(t, report.JUnit, r, report.Options{})))
		type open struct {
			name string
			last int // child, of those that there may be
		}
		above := []open{{name: "", last: 0}}
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			parent := &above[len(above)-1]
			switch e := token.(type) {
			case xml.StartElement:
				var has []string
				for _, a := range e.Attr {
					has = append(has, a.Name.Local)
				}
				for _, fault := range junitShapes[e.Name.Local].attributes.faults(e.Name.Local, has) {
					t.Errorf("%s: %s", name, fault)
				}
				order := append([]string{"testsuites"}, junitShapes[parent.name].children...)
				if parent.name != "" {
					order = order[1:]
				}
				at := slices.Index(order, e.Name.Local)
				if at < parent.last {
					t.Errorf("%s: %s has no place in %q after %v", name, e.Name.Local, parent.name, order[:parent.last])
				}
				parent.last = max(at, 0)
				above = append(above, open{name: e.Name.Local})
			case xml.EndElement:
				above = above[:len(above)-1]
			}
		}
	}
}
