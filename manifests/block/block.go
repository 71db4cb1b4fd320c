// Package block reads the plain part of YAML in which nearly all manifests are
// written into the nodes that the YAML library makes of it, several times
// faster: block mappings and sequences, scalars and flow collections of one
// line, literals, comments; ASCII, indented with spaces.
//
// Package manifests calls it before it calls the library. It knows no errors:
// of whatever it does not read for certain as the library does, mistakes
// included, it says that it cannot read it.
package block

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds the nesting, and maxKey the length of a key: the library
// takes no more than 1024 bytes.
const (
	maxDepth = 100
	maxKey   = 1000
)

// Reader reads one document after another in the same memory. Its zero value
// is ready. It is for one goroutine at a time.
type Reader struct {
	memory
	text string
	bad  bool // there is something that is not read here

	pos    int // of the next byte
	line   int // that it is on, from 0
	start  int // of the line
	indent int // of the line, -1 behind the last one
	depth  int
}

// Read returns the root of a document, or false where only the library can
// tell what it says. Lines and columns count from 1. Nothing is set that does
// not bear on the meaning: comments are left out. The nodes are only good until
// the next call; their values are parts of text and stay.
func (r *Reader) Read(text string) (*yaml.Node, bool) {
	if !readable(text) {
		return nil, false
	}
	*r = Reader{memory: r.memory, text: text}
	r.begin()
	switch {
	case strings.HasPrefix(text, "---"):
		r.pos = len("---")
		r.endLine()
	case !r.settled():
		r.next()
	}
	if r.indent < 0 {
		return nil, false
	}
	root := r.node(-1)
	if r.bad || r.indent >= 0 {
		return nil, false
	}
	return root, true
}

// readable reports whether a text is of bytes that are one character each.
func readable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c >= 0x7f || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// refuse gives the document up: from here on it looks as if it ended.
func (r *Reader) refuse() *yaml.Node {
	r.bad, r.pos, r.indent = true, len(r.text), -1
	return r.add(yaml.Node{})
}

// at returns a byte of the text; behind its end there is a line end.
func (r *Reader) at(pos int) byte {
	if pos < len(r.text) {
		return r.text[pos]
	}
	return '\n'
}

func (r *Reader) column() int { return r.pos - r.start }

func (r *Reader) spaces() {
	for r.at(r.pos) == ' ' {
		r.pos++
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

// dash reports whether an item of a block sequence begins here.
func (r *Reader) dash() bool { return r.at(r.pos) == '-' && isBlank(r.at(r.pos+1)) }

// lineEnds skips spaces, and reports whether nothing but a comment follows.
func (r *Reader) lineEnds() bool {
	from := r.pos
	r.spaces()
	c := r.at(r.pos)
	return c == '\n' || c == '#' && r.pos > from
}

// endLine leaves a line on which nothing more may stand.
func (r *Reader) endLine() {
	if !r.lineEnds() {
		r.refuse()
		return
	}
	r.next()
}

// next goes to where the next line that says something begins to.
func (r *Reader) next() {
	for r.skipLine() {
		if r.settled() {
			return
		}
	}
	r.indent = -1
}

// skipLine goes to the start of the next line, if there is one.
func (r *Reader) skipLine() bool {
	end := strings.IndexByte(r.text[r.pos:], '\n')
	if end < 0 {
		r.pos = len(r.text)
		return false
	}
	r.pos += end + 1
	r.start = r.pos
	r.line++
	return true
}

// settled goes from the start of a line to where it begins to say something,
// and reports whether it does.
func (r *Reader) settled() bool {
	r.spaces()
	c := r.at(r.pos)
	if c == '\n' || c == '#' {
		return false
	}
	r.indent = r.column()
	if c == '\t' || r.indent == 0 && r.marker() {
		r.refuse()
	}
	return true
}

// marker reports whether something like a document marker stands here.
func (r *Reader) marker() bool {
	rest := r.text[r.pos:]
	return strings.HasPrefix(rest, "---") || strings.HasPrefix(rest, "...")
}
