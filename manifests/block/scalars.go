package block

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// here is a node at this place.
func (r *Reader) here() yaml.Node {
	return yaml.Node{Line: r.line + 1, Column: r.column() + 1}
}

// scalar reads a plain or quoted scalar in block context. Where a key's colon
// follows, it stops at that.
func (r *Reader) scalar() *yaml.Node {
	switch r.at(r.pos) {
	case '"', '\'':
		return r.quoted()
	}
	return r.plain()
}

// startsPlain reports whether a plain scalar may begin with a byte, a dash
// apart.
var startsPlain = bytesOutside("?:,[]{}#&*!|>'\"%@`-")

// bytesOutside is the set of printable characters without some.
func bytesOutside(some string) (set [256]bool) {
	for c := ' ' + 1; c < 0x7f; c++ {
		set[c] = !strings.ContainsRune(some, c)
	}
	return set
}

func (r *Reader) plain() *yaml.Node {
	n := r.here()
	first := r.at(r.pos)
	if !startsPlain[first] && (first != '-' || isBlank(r.at(r.pos+1))) {
		return r.refuse()
	}
	end := r.pos
scan:
	for i := r.pos; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == ' ':
			continue
		case c == '\n', c == ':' && isBlank(r.at(i+1)), c == '#' && r.text[i-1] == ' ':
			break scan
		case c == '\t':
			return r.refuse()
		}
		end = i + 1
	}
	n.Value = r.text[r.pos:end]
	n.Kind, n.Tag = yaml.ScalarNode, tagOf(n.Value)
	r.pos = end
	if n.Tag == "" {
		return r.refuse()
	}
	return r.add(n)
}

// inFlow is the set of characters that are nothing but text in a plain scalar
// of a flow collection.
var inFlow = bytesOutside("?:,[]{}#&*!|>'\"%@`")

// flowScalar reads a plain or quoted scalar in a flow collection.
func (r *Reader) flowScalar() *yaml.Node {
	switch c := r.at(r.pos); {
	case c == '"' || c == '\'':
		return r.quoted()
	case !inFlow[c], c == '-' && !inFlow[r.at(r.pos+1)]:
		return r.refuse()
	}
	n := r.here()
	end := r.pos
	for i := r.pos; ; i++ {
		c := r.at(i)
		if inFlow[c] || c == ':' && inFlow[r.at(i+1)] {
			end = i + 1
		} else if c != ' ' {
			break
		}
	}
	n.Value = r.text[r.pos:end]
	n.Kind, n.Tag = yaml.ScalarNode, tagOf(n.Value)
	r.pos = end
	if n.Tag == "" {
		return r.refuse()
	}
	return r.add(n)
}

// escapes are those of double quotes that are read here.
var escapes = map[byte]byte{'"': '"', '\\': '\\', 'n': '\n', 't': '\t', '0': 0}

// quoted reads a quoted scalar of one line.
func (r *Reader) quoted() *yaml.Node {
	n := r.here()
	n.Kind, n.Tag, n.Style = yaml.ScalarNode, "!!str", yaml.DoubleQuotedStyle
	quote := r.text[r.pos]
	if quote == '\'' {
		n.Style = yaml.SingleQuotedStyle
	}
	r.pos++
	from := r.pos
	r.buffer = r.buffer[:0]
	for ; ; r.pos++ {
		c := r.at(r.pos)
		switch {
		case c < ' ':
			return r.refuse()
		case c == quote && quote == '\'' && r.at(r.pos+1) == quote:
			r.buffer = append(append(r.buffer, r.text[from:r.pos]...), quote)
			r.pos++
			from = r.pos + 1
		case c == quote:
			if n.Value = r.text[from:r.pos]; len(r.buffer) > 0 {
				n.Value = string(append(r.buffer, n.Value...))
			}
			r.pos++
			return r.add(n)
		case c == '\\' && quote == '"':
			escaped, ok := escapes[r.at(r.pos+1)]
			if !ok {
				return r.refuse()
			}
			r.buffer = append(append(r.buffer, r.text[from:r.pos]...), escaped)
			r.pos++
			from = r.pos + 1
		}
	}
}

// literal reads a literal block scalar, in a collection at column parent. Its
// indentation is that of its first line, which must be no blank one.
func (r *Reader) literal(parent int) *yaml.Node {
	n := r.here()
	n.Kind, n.Tag, n.Style = yaml.ScalarNode, "!!str", yaml.LiteralStyle
	r.pos++
	chomp := r.at(r.pos)
	if chomp == '-' || chomp == '+' {
		r.pos++
	}
	if parent < 0 || !r.lineEnds() || !r.skipLine() {
		return r.refuse()
	}
	r.spaces()
	indent := r.column()
	if indent <= parent || isBlank(r.at(r.pos)) || r.pos == len(r.text) {
		return r.refuse()
	}
	if r.pos = r.start; !r.lines(indent) {
		return r.refuse()
	}
	n.Value = chomped(r.buffer, chomp)
	if !r.settled() {
		r.next()
	}
	return r.add(n)
}

// lines gathers the lines of a literal in the buffer, without their
// indentation and with the blank ones behind them, and goes to the start of
// what follows. It reports false where the last line does not end.
func (r *Reader) lines(indent int) bool {
	r.buffer = r.buffer[:0]
	for r.pos < len(r.text) {
		for r.column() < indent && r.at(r.pos) == ' ' {
			r.pos++
		}
		c := r.at(r.pos)
		if r.column() < indent && c != '\n' {
			r.pos = r.start
			return c != '\t'
		}
		from := r.pos
		if !r.skipLine() {
			return false
		}
		r.buffer = append(r.buffer, r.text[from:r.pos]...)
	}
	return true
}

// chomped is the text of a literal with its last line ends as its header says.
func chomped(text []byte, chomp byte) string {
	if chomp == '+' {
		return string(text)
	}
	end := len(text)
	for end > 0 && text[end-1] == '\n' {
		end--
	}
	if chomp != '-' {
		end++
	}
	return string(text[:end])
}

// tagOf says what a plain scalar is, as the library resolves it; "" for a
// merge key.
func tagOf(value string) string {
	switch c := value[0]; {
	case c >= '0' && c <= '9':
		if isCount(value) {
			return "!!int"
		}
		if hasWordLetter(value) {
			return "!!str"
		}
	case c == '+' || c == '-' || c == '.':
	default:
		return wordTag(value)
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Value: value}
	return n.ShortTag()
}

// wordTag is tagOf for what begins neither with a digit nor with a sign.
func wordTag(value string) string {
	switch value {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return "!!bool"
	case "~", "null", "Null", "NULL":
		return "!!null"
	case "<<":
		return ""
	}
	return "!!str"
}

// hasWordLetter reports whether a value has a letter that is in no number, in
// whatever base, and in no time.
func hasWordLetter(value string) bool {
	for i := range len(value) {
		switch c := value[i] | 0x20; {
		case c >= 'g' && c <= 'n', c >= 'p' && c <= 's', c >= 'u' && c <= 'w', c == 'y':
			return true
		}
	}
	return false
}

// isCount reports whether a value is a decimal number that fits anywhere.
func isCount(value string) bool {
	if len(value) > 9 || value[0] == '0' && len(value) > 1 {
		return false
	}
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return false
		}
	}
	return true
}
