// Package support says which of Kubernetes' fields and values Evenkeel acts
// on, so that every other one can be refused by name instead of being
// ignored. It is an allow-list: a field that a new release of Kubernetes
// brings is refused until it is listed here.
//
// Manifests and the API ask it about what a person wrote, never about
// defaults. It is data and a look-up; it keeps no state and does no I/O.
package support

import (
	"fmt"
	"slices"
	"strings"
)

// Field is one supported field, with what is supported below it. It is
// read-only and may be used from several goroutines. All methods answer for a
// nil Field, which stands for one that is not supported.
type Field struct {
	children map[string]*Field // by JSON name; "*" any map key, "[]" list items
	whole    bool              // everything below is supported
	values   []string          // the only values supported; nil for all
	noIPv6   bool
	noSystem bool
}

// Everything supports whatever is asked of it. Readers go on with it below a
// field that they have refused.
var Everything = &Field{whole: true}

// Instead says what to do in place of declaring a field of that name, which
// Kubernetes lets no manifest declare; "" for all other fields.
func Instead(name string) string { return instead[name] }

// Names of the children that are not fields: any key of a map, items of a list.
const (
	anyKey   = "*"
	listItem = "[]"
)

var kinds = parse(data, fragments)

// For returns what is supported of a kind, by its resource name, or nil where
// the kind may not be declared at all.
func For(resource string) *Field { return kinds[resource] }

// Child returns the field of that JSON name, or the value under that map key,
// or nil where it is not supported.
func (f *Field) Child(name string) *Field {
	if f == nil || f.whole {
		return f
	}
	if c, ok := f.children[name]; ok {
		return c
	}
	return f.children[anyKey]
}

// Item returns what is supported of the items of a list.
func (f *Field) Item() *Field { return f.Child(listItem) }

// Allows reports whether a scalar value, as text, is supported. It does not
// judge whether Kubernetes knows the value.
func (f *Field) Allows(value string) bool {
	if f == nil {
		return false
	}
	if f.noIPv6 && strings.Contains(value, ":") || f.noSystem && strings.HasPrefix(value, system) {
		return false
	}
	return f.values == nil || slices.Contains(f.values, value)
}

// Values returns the values that are supported where they are limited to a
// list, without the empty one.
func (f *Field) Values() []string {
	if f == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(f.values), func(v string) bool { return v == "" })
}

// Limited reports whether only some values are supported.
func (f *Field) Limited() bool { return f != nil && (f.values != nil || f.noIPv6 || f.noSystem) }

// system begins the keys of taints that the control plane gives to nodes and
// takes from them by itself.
const system = "node.kubernetes.io/"

// parse reads the tables of fields.go. A line is a path; "= a b" after it
// limits the values ("-" is the empty one), "!ipv6" refuses IPv6 addresses,
// "!system" what the control plane alone says of nodes,
// "@name" puts a fragment below it, "**" supports all that is below.
func parse(data, fragments map[string]string) map[string]*Field {
	out := make(map[string]*Field, len(data))
	for resource, text := range data {
		root := &Field{}
		root.add(text, fragments)
		out[resource] = root
	}
	return out
}

func (f *Field) add(text string, fragments map[string]string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		f.at(splitPath(words[0])).annotate(words[1:], fragments)
	}
}

func (f *Field) annotate(words []string, fragments map[string]string) {
	for i, w := range words {
		switch {
		case w == "**":
			f.whole = true
		case w == "!ipv6":
			f.noIPv6 = true
		case w == "!system":
			f.noSystem = true
		case w == "=":
			f.values = slices.Clone(words[i+1:])
			if j := slices.Index(f.values, "-"); j >= 0 {
				f.values[j] = ""
			}
			return
		case strings.HasPrefix(w, "@"):
			text, ok := fragments[w[1:]]
			if !ok {
				panic(fmt.Sprintf("no fragment %s", w))
			}
			f.add(text, fragments)
		default:
			panic(fmt.Sprintf("cannot read %q in the table of supported fields", w))
		}
	}
}

// at returns the field at a path, making what is missing.
func (f *Field) at(path []string) *Field {
	for _, name := range path {
		if f.children == nil {
			f.children = map[string]*Field{}
		}
		c, ok := f.children[name]
		if !ok {
			c = &Field{}
			f.children[name] = c
		}
		f = c
	}
	return f
}

// splitPath cuts "a.b[].c" into a, b, [], c.
func splitPath(path string) []string {
	var names []string
	for part := range strings.SplitSeq(path, ".") {
		name := strings.TrimSuffix(part, listItem)
		names = append(names, name)
		if name != part {
			names = append(names, listItem)
		}
	}
	return names
}
