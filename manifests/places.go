package manifests

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// place is where one field, map key or list item stands in its file: a key's
// place is its value's if that is a scalar, and otherwise its own.
// It holds no pointer, so that many of them cost the garbage collector nothing.
type place struct {
	at     int32 // where the name of a key begins; below 0, which field's name it is; the index of a list item
	length int32 // of the name; 0 for a list item
	parent int32
	line   int32
	column int32
}

// places are all places of an object, parents before children. The first is
// the object itself.
type places struct {
	all   []place
	names []byte // what keys are called, often several in the same bytes
}

// sharedNames is within how many bytes a name is looked for before it is
// written once more.
const sharedNames = 512

type lineColumn struct{ line, column int }

// add notes the place of a list item, or of the object itself.
func (p *places) add(parent int32, index, line, column int) int32 {
	return p.put(place{at: int32(index), parent: parent, line: int32(line), column: int32(column)})
}

// addKey notes the place of a key of a map.
func (p *places) addKey(parent int32, name string, line, column int) int32 {
	pl := place{length: int32(len(name)), parent: parent, line: int32(line), column: int32(column)}
	if name != "" {
		pl.at = p.write(name)
	}
	return p.put(pl)
}

// addField notes the place of a field.
func (p *places) addField(parent int32, f *fieldPlan, line, column int) int32 {
	return p.put(place{at: -1 - f.number, length: int32(len(f.name)), parent: parent, line: int32(line), column: int32(column)})
}

func (p *places) put(pl place) int32 {
	p.all = append(p.all, pl)
	return int32(len(p.all) - 1)
}

// write returns where a name begins in names.
func (p *places) write(name string) int32 {
	if at := bytes.Index(p.names[:min(len(p.names), sharedNames)], []byte(name)); at >= 0 {
		return int32(at)
	}
	p.names = append(p.names, name...)
	return int32(len(p.names) - len(name))
}

// name is a place's field or key, "" for a list item.
func (p *places) name(pl place) string {
	switch {
	case pl.length == 0:
		return ""
	case pl.at < 0:
		return fieldName(-1 - pl.at)
	}
	return string(p.names[pl.at : pl.at+pl.length])
}

// empty returns places without any, in the same memory.
func (p *places) empty() places { return places{all: p.all[:0], names: p.names[:0]} }

// clone returns a copy that shares nothing.
func (p *places) clone() *places {
	return &places{all: slices.Clone(p.all), names: slices.Clone(p.names)}
}

// path gives the path of a place as Kubernetes writes it.
func (p *places) path(at int32) string {
	if at <= 0 {
		return ""
	}
	pl := p.all[at]
	above, name := p.path(pl.parent), p.name(pl)
	switch {
	case name == "":
		return above + "[" + strconv.Itoa(int(pl.at)) + "]"
	case above == "":
		return name
	case strings.ContainsAny(name, ".[]/ "):
		return above + "[" + name + "]"
	}
	return above + "." + name
}

// find follows a field path as far as the manifest goes.
func (p *places) find(path string) (at lineColumn, exact bool) {
	if p == nil || len(p.all) == 0 {
		return lineColumn{}, false
	}
	cur := int32(0)
	exact = true
	for _, step := range fieldPathSteps(path) {
		next := p.child(cur, step)
		if next < 0 {
			exact = false
			break
		}
		cur = next
	}
	pl := p.all[cur]
	return lineColumn{int(pl.line), int(pl.column)}, exact
}

func (p *places) child(parent int32, step string) int32 {
	index, err := strconv.Atoi(step)
	for i := int(parent) + 1; i < len(p.all); i++ {
		pl := &p.all[i]
		if pl.parent != parent {
			continue
		}
		if p.name(*pl) == step || pl.length == 0 && err == nil && int(pl.at) == index {
			return int32(i)
		}
	}
	return -1
}

// fieldPathSteps cuts "spec.ports[0].name" and "metadata.labels[a.b/c]" into
// names, indices and keys.
func fieldPathSteps(path string) []string {
	var steps []string
	for path != "" {
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(steps, path[1:])
			}
			steps, path = append(steps, path[1:end]), path[end+1:]
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			return append(steps, path)
		}
		if end > 0 {
			steps = append(steps, path[:end])
		}
		path = path[end:]
		if path == "." {
			return steps
		}
	}
	return steps
}
