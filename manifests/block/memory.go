package block

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

const (
	chunk     = 256      // nodes or children that are made room for at once
	maxChunks = 16       // that are kept for the next document
	maxBuffer = 64 << 10 // bytes that are kept
)

// memory is what documents are read in, one after another. Chunks never move.
type memory struct {
	nodes    [][]yaml.Node
	used     int // of the chunks of nodes; the next one is being filled
	children [][]*yaml.Node
	filled   int
	open     []*yaml.Node // of collections that are not complete
	buffer   []byte       // for a value that is no part of the text
}

// begin takes everything back.
func (m *memory) begin() {
	m.nodes, m.children = m.nodes[:min(len(m.nodes), maxChunks)], m.children[:min(len(m.children), maxChunks)]
	for i := range m.nodes {
		m.nodes[i] = m.nodes[i][:0]
	}
	for i := range m.children {
		m.children[i] = m.children[i][:0]
	}
	clear(m.nodes[len(m.nodes):cap(m.nodes)])
	clear(m.children[len(m.children):cap(m.children)])
	if cap(m.buffer) > maxBuffer {
		m.buffer = nil
	}
	m.used, m.filled, m.open = 0, 0, m.open[:0]
}

// add gives a node its place.
func (m *memory) add(n yaml.Node) *yaml.Node {
	if m.used == len(m.nodes) {
		m.nodes = append(m.nodes, make([]yaml.Node, 0, chunk))
	}
	nodes := append(m.nodes[m.used], n)
	m.nodes[m.used] = nodes
	if len(nodes) == chunk {
		m.used++
	}
	return &nodes[len(nodes)-1]
}

// close makes the open nodes from an index on the children of one.
func (m *memory) close(before int) []*yaml.Node {
	open := m.open[before:]
	m.open = m.open[:before]
	switch n := len(open); {
	case n == 0:
		return nil
	case n > chunk:
		return slices.Clone(open)
	case m.filled < len(m.children) && len(m.children[m.filled])+n > chunk:
		m.filled++
	}
	if m.filled == len(m.children) {
		m.children = append(m.children, make([]*yaml.Node, 0, chunk))
	}
	children := m.children[m.filled]
	from := len(children)
	children = append(children, open...)
	m.children[m.filled] = children
	return children[from:len(children):len(children)]
}
