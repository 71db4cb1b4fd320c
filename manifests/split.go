package manifests

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// document is one document of a file: a piece of its text.
type document struct {
	text   []byte
	line   int // of the file, on which the text begins
	number int // within the file, from 1

	lines [][]byte // of text, made when first asked for
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
	return nil
}

func firstInvalid(data []byte) (line, column int) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if column++; r == '\n' {
			line, column = line+1, 1
		}
		data = data[size:]
	}
	return line, column
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
