package manifests

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/support"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// validate adds Kubernetes' own findings. A value that Kubernetes refuses is
// not also said to be unsupported.
func (d *decoder) validate(obj schema.Object, findings []Diagnostic) []Diagnostic {
	errs := validation.Validate(obj)
	if len(errs) == 0 {
		return findings
	}
	r := refusals{decoder: d}
	_ = json.Unmarshal(d.json, &r.written) // d.json is JSON by construction
	kept := findings
	for _, e := range r.once(errs) {
		var collected []Diagnostic
		v := *d
		v.sink = &collected
		v.reportAt(r.writtenAt(e), Diagnostic{Code: codeInvalid, Message: invalidMessage(e, d.secret), Suggestion: r.suggest(e)})
		kept = dropAt(kept, collected[0].Position)
		kept = append(kept, collected...)
	}
	return kept
}

func dropAt(findings []Diagnostic, at Position) []Diagnostic {
	var kept []Diagnostic
	for _, f := range findings {
		if f.Code != codeUnsupported || f.Position != at {
			kept = append(kept, f)
		}
	}
	return kept
}

// invalidMessage gives a validation error in our words.
func invalidMessage(e *field.Error, secret bool) string {
	body := e.ErrorBody()
	if secret {
		body = e.Type.String() + ": " + e.Detail
	}
	body = strings.TrimSuffix(strings.ToLower(body[:1])+body[1:], ": ")
	if e.Field == "" || e.Field == "<nil>" {
		return body
	}
	return e.Field + ": " + body
}

// refusals are what Kubernetes' validation says of one object, seen beside
// what its manifest says.
type refusals struct {
	*decoder
	written any // the manifest as JSON
}

// once leaves out what says the same of one value again: a second rule that
// the field breaks in the same way, and a default made of the wrong value.
func (r refusals) once(errs field.ErrorList) field.ErrorList {
	var out field.ErrorList
	for i, e := range errs {
		_, exact := r.places.find(e.Field)
		again := slices.ContainsFunc(errs[:i], func(o *field.Error) bool { return o.Field == e.Field && o.Type == e.Type && same(o, e) })
		made := !exact && slices.ContainsFunc(errs, func(o *field.Error) bool {
			_, written := r.places.find(o.Field)
			return written && same(o, e)
		})
		if !again && !made {
			out = append(out, e)
		}
	}
	return out
}

// same reports whether two errors are about the same text.
func same(a, b *field.Error) bool {
	text, ok := textOf(a.BadValue)
	other, _ := textOf(b.BadValue)
	return ok && text == other
}

// textOf returns a bad value as the manifest has it, if it is a plain one.
func textOf(value any) (string, bool) {
	if value == nil {
		return "", false
	}
	switch text := fmt.Sprint(value); {
	case text == "", strings.ContainsAny(text, "{}[]\n"):
		return "", false
	default:
		return text, true
	}
}

// madeOf are fields that Kubernetes fills from another one, and judges in its
// place.
var madeOf = map[string]string{"spec.clusterIPs[0]": "spec.clusterIP", "spec.ipFamilies[0]": "spec.ipFamily"}

// writtenAt is the field that an error is about, as exactly as the manifest
// tells: Kubernetes often names the map, and the bad key or value.
func (r refusals) writtenAt(e *field.Error) string {
	if from, ok := madeOf[e.Field]; ok {
		if _, exact := r.places.find(e.Field); !exact {
			return from
		}
	}
	text, ok := textOf(e.BadValue)
	entries, isMap := r.at(e.Field).(map[string]any)
	if !ok || !isMap {
		return e.Field
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		if key == text || fmt.Sprint(entries[key]) == text {
			return e.Field + "[" + key + "]"
		}
	}
	return e.Field
}

// at returns what the manifest says under a field path, or nil.
func (r refusals) at(path string) any {
	cur := r.written
	for _, step := range fieldPathSteps(path) {
		switch c := cur.(type) {
		case map[string]any:
			cur = c[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(c) {
				return nil
			}
			cur = c[i]
		default:
			return nil
		}
	}
	return cur
}

var quotedWord = regexp.MustCompile(`"([^"]+)"`)

// suggest guesses what was meant by a value that is none of those that may be.
func (r refusals) suggest(e *field.Error) string {
	if instead := support.Instead(e.Field[strings.LastIndex(e.Field, ".")+1:]); instead != "" {
		return instead
	}
	text, ok := textOf(e.BadValue)
	if !ok || r.secret {
		return ""
	}
	var candidates []string
	switch e.Type {
	case field.ErrorTypeNotSupported:
		for _, m := range quotedWord.FindAllStringSubmatch(e.Detail, -1) {
			candidates = append(candidates, m[1])
		}
	case field.ErrorTypeNotFound:
		candidates = r.volumes(e.Field)
	}
	if near := nearest(text, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// containerPath ends where the path of a pod's containers begins.
var containerPath = regexp.MustCompile(`^(.*)\.(?:initC|c)ontainers\[\d+\]\.volumeMounts`)

// volumes are the names of the volumes that a mount may mean.
func (r refusals) volumes(path string) []string {
	m := containerPath.FindStringSubmatch(path)
	if m == nil {
		return nil
	}
	var names []string
	all, _ := r.at(m[1] + ".volumes").([]any)
	for _, v := range all {
		if volume, ok := v.(map[string]any); ok {
			names = append(names, fmt.Sprint(volume["name"]))
		}
	}
	return names
}
