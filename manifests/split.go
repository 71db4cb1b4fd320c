package manifests

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"
)

// document is one document of a file: a piece of its text.
type document struct {
	text   []byte
	line   int // of the file, on which the text begins
	number int // within the file, from 1

	lines  [][]byte // of text, made when first asked for
	breaks []int    // see fileLine; made when first asked for
}

// foreignBreaks end a line for YAML and for no editor.
var foreignBreaks = [][]byte{[]byte("\u0085"), []byte("\u2028"), []byte("\u2029")}

// fileLine returns the line of the file for one that the YAML parser counts,
// from 1, in the document.
func (d *document) fileLine(parsed int) int {
	if d.breaks == nil {
		d.breaks = []int{}
		if slices.ContainsFunc(foreignBreaks, func(b []byte) bool { return bytes.Contains(d.text, b) }) {
			d.findBreaks()
		}
	}
	foreign, _ := slices.BinarySearch(d.breaks, parsed)
	return d.line - 1 + parsed - foreign
}

// findBreaks notes the parser's lines that end with a foreign break.
func (d *document) findBreaks() {
	line := 1
	for rest := d.text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch rest = rest[size:]; r {
		case '\n':
			line++
		case '\u0085', '\u2028', '\u2029':
			d.breaks = append(d.breaks, line)
			line++
		}
	}
}

// lineText returns a line of the file, as text without its line end.
func (d *document) lineText(line int) string {
	if d.lines == nil {
		d.lines = bytes.Split(d.text, []byte("\n"))
	}
	i := line - d.line
	if i < 0 || i >= len(d.lines) {
		return ""
	}
	return string(bytes.TrimRight(d.lines[i], "\r"))
}

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	utf16Marks    = [][]byte{{0xfe, 0xff}, {0xff, 0xfe}}
	lfsPointer    = []byte("version https://git-lfs.github.com/spec/v1\n")
)

// checkText returns what is wrong with a file as a whole, or nil.
func checkText(data []byte) *Diagnostic {
	wrong := func(code, suggestion, format string, args ...any) *Diagnostic {
		return &Diagnostic{Code: code, Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	}
	if len(data) > maxFileBytes {
		return wrong(codeTooBig, "split it", "the file has %d bytes; at most %d are read", len(data), maxFileBytes)
	}
	for _, mark := range utf16Marks {
		if bytes.HasPrefix(data, mark) {
			return wrong(codeNotUTF8, "save it as UTF-8", "the file is UTF-16")
		}
	}
	if bytes.HasPrefix(data, lfsPointer) {
		return wrong(codeLFS, "take the file out of LFS", "the file is a Git LFS pointer and not its content")
	}
	if !utf8.Valid(data) {
		d := wrong(codeNotUTF8, "save it as UTF-8", "the file is not UTF-8")
		d.Position.Line, d.Position.Column = firstInvalid(data)
		return d
	}
	if at := loneReturn(data); at >= 0 {
		d := wrong(codeSyntax, "save it with the line ends of Unix", "the line ends with a carriage return alone")
		d.Position.Line, d.Position.Column = lineAndColumn(data[:at])
		return d
	}
	return nil
}

// loneReturn finds a carriage return without a line feed. YAML takes it for
// the end of a line, and nobody else does any more.
func loneReturn(data []byte) int {
	for at := 0; ; at++ {
		next := bytes.IndexByte(data[at:], '\r')
		if next < 0 {
			return -1
		}
		if at += next; at+1 == len(data) || data[at+1] != '\n' {
			return at
		}
	}
}

func firstInvalid(data []byte) (line, column int) {
	valid := data
	for len(valid) > 0 {
		r, size := utf8.DecodeRune(valid)
		if r == utf8.RuneError && size == 1 {
			break
		}
		valid = valid[size:]
	}
	return lineAndColumn(data[:len(data)-len(valid)])
}

// lineAndColumn is the place of what follows a text.
func lineAndColumn(before []byte) (line, column int) {
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}

// split cuts a file at its document markers, "---" and "..." at the start of
// a line. YAML forbids those inside every scalar, block scalars included
// (YAML 1.2, c-forbidden), so no parsing is needed, and a document that does
// not parse hides no other. Documents of comments and blanks alone are left
// out but counted.
func split(data []byte) []document {
	data = bytes.TrimPrefix(data, byteOrderMark)
	var docs []document
	s := splitter{line: 1}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			end = len(data)
		}
		docs = s.take(docs, data[:end])
		data = data[end:]
	}
	return s.flush(docs)
}

// splitter gathers the lines of one document. Its text is always a run of the
// file's bytes.
type splitter struct {
	text       []byte
	line       int // on which text begins
	lines      int // in text
	content    bool
	directives bool
	number     int
}

func (s *splitter) take(docs []document, line []byte) []document {
	switch {
	case isMarker(line, "---"):
		if s.content || !s.directives {
			docs = s.flush(docs)
		}
		s.content, s.directives = len(bytes.TrimSpace(line)) > 3, false
	case isMarker(line, "..."):
		docs = s.flush(docs)
		s.line++
		return docs
	case !s.content && line[0] == '%':
		s.directives = true
	case !s.content:
		trimmed := bytes.TrimLeft(line, " \t\r\n")
		s.content = len(trimmed) > 0 && trimmed[0] != '#'
	}
	if s.text == nil {
		s.text = line
	} else {
		s.text = s.text[:len(s.text)+len(line)] // lines follow one another
	}
	s.lines++
	return docs
}

func (s *splitter) flush(docs []document) []document {
	if s.content || isMarker(s.text, "---") {
		s.number++
	}
	if s.content {
		docs = append(docs, document{text: s.text, line: s.line, number: s.number})
	}
	*s = splitter{line: s.line + s.lines, number: s.number}
	return docs
}

func isMarker(line []byte, marker string) bool {
	if !bytes.HasPrefix(line, []byte(marker)) {
		return false
	}
	rest := line[len(marker):]
	return len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0
}
