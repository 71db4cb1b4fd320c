package reconciler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
)

// FieldChange is one field of an update. Values are JSON; "" is absent. Values
// of secrets are replaced by a number: equal numbers are equal values within
// one plan.
//
// An item of a list is named by what tells it apart, "containers[name=web]",
// or else by its place, "args[0]".
type FieldChange struct {
	Path     string
	Old, New string

	// Place is where the manifest sets the field, or where it sets what is
	// around it, when Exact is false: it says nothing of the field itself.
	Place manifests.Position
	Exact bool

	// Drift is set when the source did not change the field: somebody else did.
	Drift bool
}

// fieldChanges lists what differs between a live object and what it is to be,
// but for what the system writes. before and declared are what the source said
// and says, before is nil if it said nothing.
func fieldChanges(live, updated schema.Object, before, declared []byte) ([]FieldChange, error) {
	var trees [4]map[string]any
	for i, source := range []any{live, updated, before, declared} {
		var err error
		if trees[i], err = tree(source); err != nil {
			return nil, err
		}
	}
	switch schema.KeyOf(live).Resource {
	case schema.Services.Resource:
		dropAllocated(trees)
	case schema.Pods.Resource:
		dropGiven(trees)
	case schema.Secrets.Resource:
		for _, t := range trees {
			if t["data"] == nil { // so that each key is a field of its own
				t["data"] = map[string]any{}
			}
		}
	}
	var out []FieldChange
	compare("", trees[0], trees[1], func(path string, a, b any) {
		out = append(out, FieldChange{Path: path, Old: text(a), New: text(b)})
	})
	if before == nil {
		return out, nil
	}
	var said []string
	compare("", trees[2], trees[3], func(path string, _, _ any) { said = append(said, path) })
	for i := range out {
		out[i].Drift = !slices.ContainsFunc(said, func(path string) bool { return within(out[i].Path, path) || within(path, out[i].Path) })
	}
	return out, nil
}

// within reports whether a field is another one or lies in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// tree is an object, or canonical JSON of what a manifest says of one, as maps
// and lists, without what only the system writes.
func tree(source any) (map[string]any, error) {
	data, ok := source.([]byte)
	if !ok {
		var err error
		if data, err = schema.JSON(source.(schema.Object)); err != nil {
			return nil, err
		}
	}
	out := map[string]any{}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &out); err != nil {
			return nil, err
		}
	}
	delete(out, "status")
	if meta, isMap := out["metadata"].(map[string]any); isMap {
		if !ok {
			dropStamps(meta)
		}
		for _, name := range []string{"resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"} {
			delete(meta, name)
		}
	}
	return out, nil
}

// dropAllocated takes out of a service's trees the addresses and ports that
// the cluster chose: a plan without a cluster does not know them.
func dropAllocated(trees [4]map[string]any) {
	for _, name := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
		if dig(trees[2], "spec", name) != nil || dig(trees[3], "spec", name) != nil {
			continue
		}
		for _, t := range trees[:2] {
			if spec, ok := t["spec"].(map[string]any); ok {
				delete(spec, name)
			}
		}
	}
	if declaresNodePort(trees[2]) || declaresNodePort(trees[3]) {
		return
	}
	for _, t := range trees[:2] {
		for _, port := range list(dig(t, "spec", "ports")) {
			if port, ok := port.(map[string]any); ok {
				delete(port, "nodePort")
			}
		}
	}
}

func declaresNodePort(t map[string]any) bool {
	return slices.ContainsFunc(list(dig(t, "spec", "ports")), func(port any) bool {
		p, ok := port.(map[string]any)
		return ok && p["nodePort"] != nil
	})
}

func list(v any) []any { l, _ := v.([]any); return l }

func dig(v any, names ...string) any {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// compare reports the smallest parts in which two trees differ.
func compare(path string, a, b any, differs func(path string, a, b any)) {
	am, aIsMap := a.(map[string]any)
	bm, bIsMap := b.(map[string]any)
	al, aIsList := a.([]any)
	bl, bIsList := b.([]any)
	switch {
	case aIsMap && bIsMap:
		names := maps.Clone(am)
		maps.Copy(names, bm)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			compare(join(path, name), am[name], bm[name], differs)
		}
	case aIsList && bIsList:
		compareLists(path, al, bl, differs)
	case !equality.Semantic.DeepEqual(a, b):
		differs(path, a, b)
	}
}

// compareLists pairs the items by what tells them apart. Where nothing does,
// lists of one length are compared item by item, others as a whole, and so are
// those that differ in their order alone.
func compareLists(path string, a, b []any, differs func(path string, a, b any)) {
	if equality.Semantic.DeepEqual(a, b) {
		return
	}
	key := keyOf(a, b)
	if key == "" && len(a) == len(b) {
		for i := range a {
			compare(fmt.Sprintf("%s[%d]", path, i), a[i], b[i], differs)
		}
		return
	}
	found := false
	if key != "" {
		old, updated := byKey(a, key), byKey(b, key)
		for _, item := range slices.Concat(b, a) {
			id := text(item.(map[string]any)[key])
			if _, isNew := updated[id]; isNew || old[id] != nil {
				compare(fmt.Sprintf("%s[%s=%s]", path, key, strings.Trim(id, `"`)), old[id], updated[id], func(path string, a, b any) {
					found = true
					differs(path, a, b)
				})
			}
			delete(old, id)
			delete(updated, id)
		}
	}
	if !found {
		differs(path, a, b)
	}
}

// itemKeys are the fields that may tell the items of a list apart, the best
// first (Kubernetes' patchMergeKey tags).
var itemKeys = []string{"name", "mountPath", "devicePath", "containerPort", "port", "ip", "uid", "key"}

// keyOf returns the field that every item of both lists has, each with its own
// value, or "".
func keyOf(lists ...[]any) string {
	for _, key := range itemKeys {
		if !slices.ContainsFunc(lists, func(l []any) bool { return len(byKey(l, key)) != len(l) }) {
			return key
		}
	}
	return ""
}

// byKey holds the items that have a field by its value.
func byKey(items []any, key string) map[string]any {
	out := make(map[string]any, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok && m[key] != nil {
			out[text(m[key])] = item
		}
	}
	return out
}

func join(path, name string) string {
	switch {
	case path == "":
		return name
	case strings.ContainsAny(name, ".[]/ "):
		return path + "[" + name + "]"
	}
	return path + "." + name
}

func text(v any) string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	_ = out.Encode(v) // what JSON was read into can be written
	return strings.TrimSuffix(b.String(), "\n")
}

// place finds where an item sets each field.
func place(item *manifests.Item, fields []FieldChange) error {
	declared, err := tree(item.Declared)
	if err != nil {
		return err
	}
	for i := range fields {
		path, exact := indexed(declared, fields[i].Path)
		at, found := item.Position(path)
		fields[i].Place, fields[i].Exact = at, exact && found
	}
	return nil
}

// indexed turns "containers[name=web]" into "containers[0]" as the declared
// tree has it, as far as that goes.
func indexed(declared any, path string) (out string, exact bool) {
	at := declared
	for path != "" {
		step, rest := cut(path)
		name, bracketed := strings.CutPrefix(step, "[")
		name = strings.TrimSuffix(strings.TrimPrefix(name, "."), "]")
		items, isList := at.([]any)
		switch {
		case isList && bracketed:
			i := find(items, name)
			if i < 0 {
				return out, false
			}
			at, out = items[i], fmt.Sprintf("%s[%d]", out, i)
		default:
			next := dig(at, name)
			if next == nil {
				return out, false
			}
			at, out = next, out+step
		}
		path = rest
	}
	return out, true
}

// cut takes the first step off a path: "spec", ".name" or "[…]". A key in
// brackets may have brackets of its own no more than a label may.
func cut(path string) (step, rest string) {
	if path[0] == '[' {
		if end := strings.IndexByte(path, ']'); end > 0 {
			return path[:end+1], path[end+1:]
		}
		return path, ""
	}
	if end := strings.IndexAny(path[1:], ".["); end >= 0 {
		return path[:end+1], path[end+1:]
	}
	return path, ""
}

// find returns the index of "name=web" or "0" in a list, or -1.
func find(items []any, name string) int {
	key, value, keyed := strings.Cut(name, "=")
	if i, err := strconv.Atoi(name); !keyed && err == nil && i < len(items) {
		return i
	}
	return slices.IndexFunc(items, func(item any) bool {
		return keyed && strings.Trim(text(dig(item, key)), `"`) == value
	})
}
