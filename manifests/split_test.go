package manifests

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzSplit cuts anything into documents. Each must be a run of the file's
// lines at the line that it says, after the one before it, and together they
// must leave out nothing but markers, comments, directives and blanks.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		podYAML + "---\n" + podYAML, "---\n---\n", "a\n...\nb", "%YAML 1.1\n---\na: |\n  ---\n--- b\n", "\ufeff---\r\na\r\n---\r\n", "...", "--- # c\n\n#\na", "%\n%\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := bytes.SplitAfter(bytes.TrimPrefix(data, byteOrderMark), []byte("\n"))
		next, number := 0, 0
		for _, d := range split(data) {
			n := bytes.Count(d.text, []byte("\n"))
			if !bytes.HasSuffix(d.text, []byte("\n")) {
				n++
			}
			begin := d.line - 1
			if begin < next || begin+n > len(lines) || !bytes.Equal(bytes.Join(lines[begin:begin+n], nil), d.text) {
				t.Fatalf("document %d is not at line %d: %q", d.number, d.line, d.text)
			}
			if d.number <= number {
				t.Errorf("document %d follows document %d", d.number, number)
			}
			leftOut(t, lines[next:begin])
			next, number = begin+n, d.number
		}
		leftOut(t, lines[next:])
	})
}

func leftOut(t *testing.T, lines [][]byte) {
	t.Helper()
	for _, line := range lines {
		text := strings.TrimLeft(string(line), " \t\r\n")
		if text == "" || text[0] == '#' || line[0] == '%' || isMarker(line, "...") || isMarker(line, "---") {
			continue
		}
		t.Errorf("left out: %q", line)
	}
}
