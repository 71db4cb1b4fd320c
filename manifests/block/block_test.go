package block

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// library returns the root that the library reads, or nil if the text is not
// one document.
func library(text string) *yaml.Node {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var n, more yaml.Node
	if dec.Decode(&n) != nil || !errors.Is(dec.Decode(&more), io.EOF) {
		return nil
	}
	return n.Content[0]
}

// dump writes nodes one a line, without comments. (cmp itself would compare
// each level of them twice.)
func dump(n *yaml.Node) string {
	var b strings.Builder
	var write func(n *yaml.Node, indent string)
	write = func(n *yaml.Node, indent string) {
		fmt.Fprintf(&b, "%s%d:%d kind %d style %d %s %s%q\n", indent, n.Line, n.Column, n.Kind, n.Style, n.Tag, n.Anchor, n.Value)
		for _, c := range n.Content {
			write(c, indent+" ")
		}
	}
	if n != nil {
		write(n, "")
	}
	return b.String()
}

// checkSame holds what is read against the library; what is refused is right.
func checkSame(t *testing.T, r *Reader, text string) bool {
	t.Helper()
	got, ok := r.Read(text)
	if !ok {
		return false
	}
	if diff := cmp.Diff(dump(library(text)), dump(got)); diff != "" {
		t.Errorf("%q (-library +read):\n%s", text, diff)
	}
	return true
}

// TestReads are documents that must be read here.
func TestReads(t *testing.T) {
	var r Reader
	for name, text := range map[string]string{
		"mapping":               "a: b\nc: 1\nd: true\ne: ~\nf: 1.5\ng: 2020-01-01\nh: 0x1f\ni: yes\n",
		"marker":                "--- # first\n\n# second\na: b",
		"nested":                "a:\n  b:\n    c: d\n  e: f\ng: h\n",
		"null":                  "a:\nb:  # none\n\nc:\n  d:\ne:\n",
		"sequence":              "a:\n  - b\n  - 1\n  -\n  - # none\n  - c: d\n    e: f\n\n  -   - g\n      - h: i\nj: k\n",
		"sequence not indented": "a:\n- b\n-\n- c: d\n  e:\n  - f\ng: h\n",
		"item below its dash":   "-\n  a: b\n-\n  - c\n",
		"value below its key":   "a:\n  b c\nd:\n  \"e\"\nf:\n  |\n  g\nh:\n  [i]\n",
		"quotes":                `a: "b: #c\n\"d\" \\" # e` + "\nf: 'it''s'\n\"g h\": ''\n'i': \"\"\n",
		"plain":                 "a: b:c#d e, [f] {g} --h - \"i' ! & * | > % @ `\nb: -1\nc: --x=:8080\n/d: \\e  \n",
		"flow":                  `a: ["--port=8080", -x, 'c', d e, 1, [], {}, {f: g, "h": [i]}] # j` + "\nb: {}\nc: []\nd: {http: http://x/y}\n",
		"flow alone":            `{"kind": "Pod", "items": [1, true, null]}`,
		"scalar":                "hello world\n",
		"comments":              "# a\na: b # c\n  # d\nb:\n# e\n    # f\n  - g\n  # h\n# i\n  - j\n#k\n\t# l\n"[:50] + "\n",
		"literals":              "a: |\n  b\n\n    c # d\n  e\n\n# f\ng: |-\n  h\n\ni:\n  - |+ # j\n    k\n    \n   \n\n  - l: |\n     m\to\n       \n",
	} {
		t.Run(name, func(t *testing.T) {
			if !checkSame(t, &r, text) {
				t.Errorf("not read: %q", text)
			}
		})
	}
}

// TestRefuses are documents that are left to the library, right or wrong.
func TestRefuses(t *testing.T) {
	var r Reader
	for _, text := range []string{
		"", "# a\n", "a: b\n---\nc: d\n", "a: b\n...\n", "--- a\n", "%YAML 1.1\n---\na: b\n", "a: b\r\n", "a: \u00e4\n", "a: \x00\n", "\ufeffa: b\n",
		"a: &b c\n", "a: *b\n", "a: !!str b\n", "<<: {a: b}\n", "? a\n: b\n", ": a\n", "?a: b\n",
		"a: b\n  c\n", "a: \"b\n  c\"\n", "a: 'b\n", "a: [b,\n  c]\n", "a:\n  b\n  c\n",
		"a: b: c\n", "a: - b\n", "a: b\n c: d\n", " a: b\nc: d\n", "  a: b\n c: d\n", "a:\n    b: c\n  d: e\n", "a: b\n- c\n", "- a\nb: c\n", "a:\n  - b\n  c: d\n", "a:\n  - b\n   - c\n",
		"a:\tb\n", "\ta: b\n", "a: b\n\tc: d\n", "a: b\tc\n", "a: \"b\tc\"\n",
		"a: >\n  b\n", "a: |2\n  b\n", "a: |\n\n  b\n", "a: |\nb: c\n", "a: |\n  b", "|\n  a\n", "a: |\n    b\n  c\n", "a: |\n  b\n\tc\n", "a: |x\n  b\n",
		"a: [b, ]\n", "a: [b: c]\n", "a: {b}\n", "a: {b:c}\n", "a: {\"b\":c}\n", "a: [b]c\n", "a: [b]: c\n", "[a]: b\n", "a: [b\n", "a: [-]\n", "a: [b#c]\n", "a: [b, #c\n]\n",
		"a: \"b\"c\n", "a: \"b\"#c\n", "a: \"b\": c\n", "\"a\" : b\n", "\"a\":b\n", "a : b\n", "a: \"\\x41\"\n", "a: @b\n", "a: `b`\n", "a: %b\n", "a: ]\n",
		strings.Repeat("a", maxKey+1) + ": b\n", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + "\n",
	} {
		if _, ok := r.Read(text); ok {
			t.Errorf("read: %q", text)
		}
	}
}

// TestManyNodes reads a document of more nodes than memory is kept for, and
// smaller ones after it.
func TestManyNodes(t *testing.T) {
	var r Reader
	large := "a:\n" + strings.Repeat("- b: [c]\n  d: e\n", chunk*maxChunks) + "f:\n" + strings.Repeat("- g: h\n", chunk-1)
	for _, text := range []string{"a: b\n", large, "c: {d: e}\n", large} {
		if !checkSame(t, &r, text) {
			t.Errorf("not read: %.20q", text)
		}
	}
	r.Read("a: b\n")
	if len(r.nodes) > maxChunks || len(r.children) > maxChunks {
		t.Errorf("%d and %d chunks are kept, at most %d may be", len(r.nodes), len(r.children), maxChunks)
	}
}

func corpus(t testing.TB) [][]byte {
	var all [][]byte
	for _, dir := range []string{"valid", "invalid"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "testdata", dir, "*.*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("testdata/%s: %d files, %v", dir, len(files), err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, bytes.Split(content, []byte("\n---\n"))...)
		}
	}
	return all
}

// FuzzRead reads anything at all. What is read must be what the library reads,
// to the last column.
func FuzzRead(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkSame(t, &Reader{}, text)
	})
}

// TestCorpus also says how much of the corpus is read here.
func TestCorpus(t *testing.T) {
	var r Reader
	read, all := 0, corpus(t)
	for _, text := range all {
		if checkSame(t, &r, string(text)) {
			read++
		}
	}
	if t.Logf("%d of %d", read, len(all)); read < len(all)/2 {
		t.Errorf("only %d of %d documents are read", read, len(all))
	}
}

const manifest = `apiVersion: v1
kind: ReplicationController
metadata:
  name: web # of the shop
  labels: {app: web, "tier": front}
spec:
  replicas: 3
  template:
    spec:
      containers:
      - name: web
        image: registry.example/shop/web:1.2.3
        args: ["--listen=:8080", "--store=store.shop"]
        command:
          - sh
          - -c
          - |
            exec web "$@"
        resources:
          limits:
            cpu: 100m
            memory: 64Mi
`

func BenchmarkRead(b *testing.B) {
	b.Run("block", func(b *testing.B) {
		var r Reader
		for b.Loop() {
			if _, ok := r.Read(manifest); !ok {
				b.Fatal("not read")
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			if library(manifest) == nil {
				b.Fatal("not read")
			}
		}
	})
}
