package block

import "go.yaml.in/yaml/v3"

// node reads what begins here, in a collection at column parent, and goes to
// the line after it.
func (r *Reader) node(parent int) *yaml.Node {
	if r.depth++; r.depth > maxDepth {
		return r.refuse()
	}
	defer func() { r.depth-- }()
	column := r.column()
	switch c := r.at(r.pos); {
	case r.dash():
		return r.sequence(column)
	case c == '|':
		return r.literal(parent)
	case c == '[' || c == '{':
		return r.alone(r.flow(), parent)
	}
	n := r.scalar()
	if r.at(r.pos) == ':' {
		return r.mapping(n, column)
	}
	return r.alone(n, parent)
}

// alone ends the line of a scalar or flow collection, which may not go on.
func (r *Reader) alone(n *yaml.Node, parent int) *yaml.Node {
	if r.endLine(); r.indent > parent {
		return r.refuse()
	}
	return n
}

// mapping reads a block mapping from behind its first key on.
func (r *Reader) mapping(key *yaml.Node, column int) *yaml.Node {
	m := r.add(yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: key.Line, Column: key.Column})
	before := len(r.open)
	for {
		if !r.keyEnds(key) {
			return r.refuse()
		}
		value := r.value(column)
		r.open = append(r.open, key, value)
		if r.indent != column {
			break
		}
		key = r.scalar()
	}
	if r.indent > column {
		return r.refuse()
	}
	m.Content = r.close(before)
	return m
}

// keyEnds goes behind the colon of a key.
func (r *Reader) keyEnds(key *yaml.Node) bool {
	if r.at(r.pos) != ':' || !isBlank(r.at(r.pos+1)) || r.column()+1-key.Column > maxKey {
		return false
	}
	r.pos++
	return true
}

// value reads what stands behind a key, in a mapping at a column.
func (r *Reader) value(column int) *yaml.Node {
	here := r.here()
	if r.lineEnds() {
		r.next()
		switch {
		case r.indent > column:
			return r.node(column)
		case r.indent == column && r.dash():
			return r.sequence(column)
		}
		return r.null(here)
	}
	switch r.at(r.pos) {
	case '|':
		return r.literal(column)
	case '[', '{':
		return r.alone(r.flow(), column)
	}
	return r.alone(r.scalar(), column)
}

// sequence reads a block sequence from its first dash on.
func (r *Reader) sequence(column int) *yaml.Node {
	s := r.here()
	s.Kind, s.Tag = yaml.SequenceNode, "!!seq"
	n := r.add(s)
	before := len(r.open)
	for {
		r.pos++
		item := r.item(column)
		r.open = append(r.open, item)
		if r.indent != column || !r.dash() {
			break
		}
	}
	if r.indent > column {
		return r.refuse()
	}
	n.Content = r.close(before)
	return n
}

// item reads what stands behind a dash at a column.
func (r *Reader) item(column int) *yaml.Node {
	here := r.here()
	if !r.lineEnds() {
		return r.node(column)
	}
	if r.next(); r.indent > column {
		return r.node(column)
	}
	return r.null(here)
}

// null is a value that is not written.
func (r *Reader) null(here yaml.Node) *yaml.Node {
	here.Kind, here.Tag = yaml.ScalarNode, "!!null"
	return r.add(here)
}

// flow reads a flow collection of one line.
func (r *Reader) flow() *yaml.Node {
	if r.depth++; r.depth > maxDepth {
		return r.refuse()
	}
	defer func() { r.depth-- }()
	f := r.here()
	f.Kind, f.Tag, f.Style = yaml.SequenceNode, "!!seq", yaml.FlowStyle
	end := byte(']')
	if r.at(r.pos) == '{' {
		f.Kind, f.Tag, end = yaml.MappingNode, "!!map", '}'
	}
	n := r.add(f)
	before := len(r.open)
	for first := true; ; first = false {
		r.pos++ // the bracket or comma
		r.spaces()
		if first && r.at(r.pos) == end {
			break
		}
		r.entry(f.Kind)
		r.spaces()
		if c := r.at(r.pos); c == end {
			break
		} else if c != ',' {
			return r.refuse()
		}
	}
	r.pos++
	n.Content = r.close(before)
	return n
}

// entry reads one entry of a flow collection.
func (r *Reader) entry(of yaml.Kind) {
	if of == yaml.MappingNode {
		key := r.flowScalar()
		if !r.keyEnds(key) {
			r.refuse()
			return
		}
		r.open = append(r.open, key)
		r.spaces()
	}
	var value *yaml.Node
	switch r.at(r.pos) {
	case '[', '{':
		value = r.flow()
	default:
		value = r.flowScalar()
	}
	r.open = append(r.open, value)
}
