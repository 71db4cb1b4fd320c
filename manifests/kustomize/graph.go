package kustomize

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/evenkeel/evenkeel/manifests"
)

// node is one kustomization.
type node struct {
	dir   string
	files []string // kustomization files; more than one is an error
	text  []byte
	yaml  yaml.Node
	kust  types.Kustomization
	bad   bool // findings say why it cannot be rendered

	includes []string // directories of kustomizations
}

func (n *node) file() string { return n.files[0] }

// place is where something stands in a file.
type place struct {
	file         string
	line, column int
	text         string // of the line
	width        int
}

// read parses and checks the source's kustomizations, and what they include.
// Its error says that a file's content is unknown; what is wrong with them
// becomes findings.
func (t *tree) read() error {
	dirs := t.kustomizationDirs()
	seen := map[string]bool{}
	for len(dirs) > 0 {
		n := t.nodes[dirs[0]]
		dirs = dirs[1:]
		if seen[n.dir] {
			continue
		}
		seen[n.dir] = true
		text, err := t.files[n.file()].Read()
		if manifests.IsUnavailable(err) {
			return err
		}
		before := len(t.findings)
		if err != nil {
			t.report(manifests.CodeKustomization, place{file: n.file()}, "cannot read the file: "+err.Error(), "")
		} else {
			n.text = text
			t.parse(n)
		}
		n.bad = len(t.findings) > before
		dirs = append(dirs, n.includes...)
	}
	return nil
}

// kustomizationDirs are the directories in the source that have one, sorted.
func (t *tree) kustomizationDirs() []string {
	var dirs []string
	for dir := range t.nodes {
		if t.holds(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// parse reads one kustomization as kustomize does, and checks what it refers
// to.
func (t *tree) parse(n *node) {
	if len(n.files) > 1 {
		slices.Sort(n.files)
		t.report(manifests.CodeKustomization, place{file: n.files[1]}, "the directory has another kustomization: "+n.files[0], "keep one of them")
		return
	}
	if err := yaml.Unmarshal(n.text, &n.yaml); err != nil {
		t.report(manifests.CodeKustomization, n.at(lineOf(err)), "the kustomization is no YAML: "+err.Error(), "")
		return
	}
	if err := n.kust.Unmarshal(n.text); err != nil {
		t.invalid(n, err)
		return
	}
	n.kust.FixKustomization()
	t.check(n)
}

// invalid reports what kustomize has against the file, at the word that it
// complains of.
func (t *tree) invalid(n *node, err error) {
	message := strings.TrimPrefix(err.Error(), "invalid Kustomization: ")
	message = strings.TrimPrefix(message, "json: ")
	at, suggestion := place{file: n.file(), line: 1, column: 1, text: n.lineText(1)}, ""
	if _, quoted, ok := strings.Cut(message, `"`); ok {
		word, _, _ := strings.Cut(quoted, `"`)
		at = n.find(word)
		if near := manifests.Nearest(word, fieldNames); near != "" && strings.Contains(message, "unknown field") {
			suggestion = fmt.Sprintf("did you mean %q?", near)
		}
	}
	t.report(manifests.CodeKustomization, at, message, suggestion)
}

// roots are the kustomizations to render: those that no other includes. Of a
// circle that nothing outside includes, the first stands for all.
func (t *tree) roots() []string {
	included := map[string]bool{}
	for _, n := range t.nodes {
		for _, dir := range n.includes {
			included[dir] = true
		}
	}
	var roots []string
	reached := map[string]bool{}
	add := func(dir string) {
		roots = append(roots, dir)
		for _, d := range t.closure(dir) {
			reached[d] = true
		}
	}
	all := t.kustomizationDirs()
	for _, dir := range all {
		if !included[dir] && !t.nodes[dir].isComponent() {
			add(dir)
		}
	}
	for _, dir := range all {
		if !reached[dir] && !t.nodes[dir].isComponent() {
			add(dir)
		}
	}
	slices.Sort(roots)
	return roots
}

// isComponent: a component is rendered only as part of what includes it.
func (n *node) isComponent() bool { return n.kust.Kind == types.ComponentKind }

// closure is a kustomization with all that it includes.
func (t *tree) closure(dir string) []string {
	seen := []string{dir}
	for i := 0; i < len(seen); i++ {
		for _, d := range t.nodes[seen[i]].includes {
			if !slices.Contains(seen, d) {
				seen = append(seen, d)
			}
		}
	}
	slices.Sort(seen)
	return seen
}

// find is where a word first stands in the kustomization.
func (n *node) find(word string) place {
	if at := findScalar(&n.yaml, func(v *yaml.Node) bool { return v.Value == word }); at != nil {
		return place{file: n.file(), line: at.Line, column: at.Column, text: n.lineText(at.Line), width: len([]rune(at.Value))}
	}
	return place{file: n.file()}
}

func (n *node) at(line int) place {
	if line == 0 {
		return place{file: n.file()}
	}
	return place{file: n.file(), line: line, column: 1, text: n.lineText(line), width: 1}
}

// lineText is a line to be shown, or "" where it may hold a secret.
func (n *node) lineText(line int) string {
	if mayHoldSecrets(n.text) {
		return ""
	}
	return lineText(n.text, line)
}

func lineText(text []byte, line int) string {
	at := 0
	for l := range strings.Lines(string(text)) {
		if at++; at == line {
			return strings.TrimRight(l, "\r\n")
		}
	}
	return ""
}

// lineOf is the line that an error of YAML names, or 0.
func lineOf(err error) int {
	var line int
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		_, _ = fmt.Sscanf(rest, "%d", &line) // no number leaves 0
	}
	return line
}

func findScalar(n *yaml.Node, is func(*yaml.Node) bool) *yaml.Node {
	if n.Kind == yaml.ScalarNode && is(n) {
		return n
	}
	for _, c := range n.Content {
		if found := findScalar(c, is); found != nil {
			return found
		}
	}
	return nil
}

// inside joins a reference to a directory, and reports whether it stays in
// the source.
func inside(dir, ref string) (string, bool) {
	if path.IsAbs(ref) {
		return "", false
	}
	joined := path.Join(dir, ref)
	return joined, joined != ".." && !strings.HasPrefix(joined, "../")
}
