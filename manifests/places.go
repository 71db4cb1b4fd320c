package manifests

import (
	"strconv"
	"strings"
)

// place is where one field, map key or list item stands in its file: a key's
// place is its value's if that is a scalar, and otherwise its own.
type place struct {
	name   string // field or key; "" for a list item
	index  int32  // of a list item
	parent int32
	line   int32
	column int32
}

// places are all places of an object, parents before children. The first is
// the object itself.
type places struct {
	all []place
}

type lineColumn struct{ line, column int }

func (p *places) add(parent int32, name string, index int, line, column int) int32 {
	p.all = append(p.all, place{name: name, index: int32(index), parent: parent, line: int32(line), column: int32(column)})
	return int32(len(p.all) - 1)
}

// path gives the path of a place as Kubernetes writes it.
func (p *places) path(at int32) string {
	if at <= 0 {
		return ""
	}
	pl := p.all[at]
	above := p.path(pl.parent)
	switch {
	case pl.name == "":
		return above + "[" + strconv.Itoa(int(pl.index)) + "]"
	case above == "":
		return pl.name
	case strings.ContainsAny(pl.name, ".[]/ "):
		return above + "[" + pl.name + "]"
	}
	return above + "." + pl.name
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
		if pl.name == step || pl.name == "" && err == nil && int(pl.index) == index {
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
