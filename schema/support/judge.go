package support

import (
	"fmt"
	"maps"
	"slices"
)

// Refusal is a field of a document that is not supported, or that has a value
// that is not.
type Refusal struct {
	Path   string   // as in spec.containers[0].image
	Value  string   // "" where the field itself is not supported
	Values []string // those that are supported in its place, if they are few
}

// Judge returns what a document sets below f and f does not support, in the
// order of the fields' names. A document is JSON, decoded. Null, and a text, a
// list or a map with nothing in it, set nothing.
func (f *Field) Judge(path string, document any) []Refusal {
	if f == nil {
		return []Refusal{{Path: path}}
	}
	if f.whole {
		return nil
	}
	switch v := document.(type) {
	case map[string]any:
		return f.judgeMap(path, v)
	case []any:
		var out []Refusal
		for i, item := range v {
			out = append(out, f.Item().Judge(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
		return out
	}
	if value := fmt.Sprint(document); f.Limited() && !f.Allows(value) {
		return []Refusal{{Path: path, Value: value, Values: f.Values()}}
	}
	return nil
}

func (f *Field) judgeMap(path string, document map[string]any) []Refusal {
	var out []Refusal
	for _, name := range slices.Sorted(maps.Keys(document)) {
		if value := document[name]; sets(value) {
			below := name
			if path != "" {
				below = path + "." + name
			}
			out = append(out, f.Child(name).Judge(below, value)...)
		}
	}
	return out
}

func sets(value any) bool {
	switch v := value.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}
