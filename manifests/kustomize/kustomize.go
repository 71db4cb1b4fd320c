// Package kustomize renders the kustomizations of a source: it stands before a
// manifests.Source and gives its snapshots with what the kustomizations in
// them make, in place of the files that they are made from. A source without a
// kustomization file passes unchanged.
//
// It is the wall around sigs.k8s.io/kustomize. Rendering reads only the
// snapshot's own files, in memory; it starts no program and opens no
// connection: what would need either is refused with a finding before
// kustomize sees it.
package kustomize

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/evenkeel/evenkeel/manifests"
)

// rendering is part of a rendered snapshot's Tree: another version of
// kustomize may render the same files differently.
const rendering = "kustomize-0.21.1"

// Source is a source whose kustomizations are rendered.
type Source struct {
	inner manifests.Source

	mu       sync.Mutex
	tree     string // of the inner snapshot that last is of; empty where more was read
	last     manifests.Snapshot
	rendered map[string]*rendered // by the kustomization's directory
}

var _ manifests.Source = (*Source)(nil)

// NewSource returns a source that renders what inner has.
func NewSource(inner manifests.Source) *Source {
	return &Source{inner: inner, rendered: map[string]*rendered{}}
}

// Name is the inner source's.
func (s *Source) Name() string { return s.inner.Name() }

// Watch is the inner source's.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	return s.inner.Watch(ctx, changed)
}

// Descends is the inner source's, and answers that it is not known where that
// has no history.
func (s *Source) Descends(ctx context.Context, revision, from string) (descends, known bool) {
	history, ok := s.inner.(interface {
		Descends(ctx context.Context, revision, from string) (descends, known bool)
	})
	if !ok {
		return false, false
	}
	return history.Descends(ctx, revision, from)
}

// LastChanges is the inner source's, and says nothing where that cannot tell.
func (s *Source) LastChanges(ctx context.Context, revision string, files []string) map[string]*manifests.Commit {
	history, ok := s.inner.(interface {
		LastChanges(ctx context.Context, revision string, files []string) map[string]*manifests.Commit
	})
	if !ok {
		return nil
	}
	return history.LastChanges(ctx, revision, files)
}

// Snapshot reads the inner source and renders its kustomizations: those that
// no other one includes. What has not changed is not rendered again.
func (s *Source) Snapshot(ctx context.Context) (manifests.Snapshot, error) {
	snap, err := s.inner.Snapshot(ctx)
	if err != nil || !hasKustomization(snap) {
		return snap, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap.Tree != "" && snap.Tree == s.tree {
		same := s.last
		same.Location, same.Revision, same.Commit = snap.Location, snap.Revision, snap.Commit
		return same, nil
	}
	out, err := s.renderLocked(ctx, snap)
	if err != nil {
		return manifests.Snapshot{}, fmt.Errorf("render %s: %w", snap.Location, err)
	}
	s.tree, s.last = snap.Tree, out
	if out.Whole != nil && strings.HasSuffix(out.Tree, beside) {
		s.tree = "" // what lies beside the source may change, and its tree does not
	}
	return out, nil
}

// beside ends the Tree of a snapshot that was also rendered from what lies
// beside the source.
const beside = "+beside"

func hasKustomization(snap manifests.Snapshot) bool {
	is := func(f manifests.File) bool { return manifests.IsKustomization(f.Path) }
	return slices.ContainsFunc(snap.Files, is) || slices.ContainsFunc(snap.Assets, is)
}

// renderLocked makes the snapshot of what the kustomizations render.
func (s *Source) renderLocked(ctx context.Context, snap manifests.Snapshot) (manifests.Snapshot, error) {
	t, err := readTree(ctx, snap)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	out := snap
	out.Tree = snap.Tree + "+" + rendering
	out.Files, out.Assets = nil, slices.Clone(snap.Assets)
	out.Findings = slices.Concat(snap.Findings, t.findings)
	for _, f := range snap.Files {
		if t.covers(path.Join(t.at, f.Path)) {
			out.Assets = append(out.Assets, f)
		} else {
			out.Files = append(out.Files, f)
		}
	}
	kept := map[string]*rendered{}
	prints := sha256.New()
	for _, dir := range t.roots() {
		if err := context.Cause(ctx); err != nil {
			return manifests.Snapshot{}, err
		}
		r := s.rendered[dir]
		print := t.fingerprint(dir)
		if t.at != "." {
			fmt.Fprintln(prints, dir, print)
			out.Assets = append(out.Assets, t.outside(dir)...)
		}
		if r == nil || r.fingerprint != print {
			if r, err = t.render(dir); err != nil {
				return manifests.Snapshot{}, err
			}
			r.fingerprint = print
		}
		kept[dir] = r
		out.Findings = append(out.Findings, r.findings...)
		if r.text != nil {
			out.Files = append(out.Files, r.file(t))
		}
	}
	s.rendered = kept
	if t.at != "." {
		out.Tree += "+" + hex.EncodeToString(prints.Sum(nil)) + beside
	}
	slices.SortFunc(out.Files, func(a, b manifests.File) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(out.Assets, func(a, b manifests.File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// tree is the files of one snapshot.
type tree struct {
	source   string
	at       string // where the source lies in it, "." for all of it
	leadsOut bool   // something refers to what lies beside it
	files    map[string]manifests.File
	dirs     map[string][]string // names in each directory; "." is the top
	nodes    map[string]*node    // kustomizations by directory
	findings manifests.Diagnostics
}

// readTree reads a source's kustomizations, and where they refer to what lies
// beside the source, the repository around it.
func readTree(ctx context.Context, snap manifests.Snapshot) (*tree, error) {
	t := newTree(snap, ".")
	if err := t.read(); err != nil || !t.leadsOut || snap.Whole == nil {
		return t, err
	}
	whole, err := snap.Whole(ctx)
	if err != nil {
		return nil, err
	}
	t = newTree(whole, snap.Path)
	return t, t.read()
}

func newTree(snap manifests.Snapshot, at string) *tree {
	t := &tree{source: snap.Source, at: at, files: map[string]manifests.File{}, dirs: map[string][]string{".": nil}, nodes: map[string]*node{}}
	for _, f := range slices.Concat(snap.Files, snap.Assets) {
		t.files[f.Path] = f
		name := f.Path
		for {
			dir := path.Dir(name)
			_, known := t.dirs[dir]
			t.dirs[dir] = append(t.dirs[dir], path.Base(name))
			if known {
				break
			}
			name = dir
		}
		if manifests.IsKustomization(f.Path) {
			dir := path.Dir(f.Path)
			n := t.nodes[dir]
			if n == nil {
				n = &node{dir: dir}
				t.nodes[dir] = n
			}
			n.files = append(n.files, f.Path)
		}
	}
	return t
}

// covers reports whether a file lies below a kustomization of the source.
func (t *tree) covers(file string) bool {
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if t.nodes[dir] != nil {
			return true
		}
		if dir == t.at || dir == "." {
			return false
		}
	}
}

// holds reports whether a file or directory lies in the source.
func (t *tree) holds(name string) bool {
	return t.at == "." || name == t.at || strings.HasPrefix(name, t.at+"/")
}

// shown is a path as it is seen from the source.
func (t *tree) shown(name string) string {
	rel, err := filepath.Rel(t.at, name)
	if err != nil {
		return name
	}
	return filepath.ToSlash(rel)
}

// outside are the files beside the source that a kustomization may be made of.
func (t *tree) outside(dir string) []manifests.File {
	var out []manifests.File
	for _, name := range t.below(t.closure(dir)) {
		if f := t.files[name]; !t.holds(name) {
			f.Path = t.shown(name)
			out = append(out, f)
		}
	}
	return out
}

// below are the files in or below directories, sorted.
func (t *tree) below(dirs []string) []string {
	var names []string
	for name := range t.files {
		if slices.ContainsFunc(dirs, func(d string) bool { return d == "." || strings.HasPrefix(name, d+"/") }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// fingerprint is of all that a kustomization may read: what lies below it and
// below those that it includes.
func (t *tree) fingerprint(dir string) string {
	sum := sha256.New()
	for _, name := range t.below(t.closure(dir)) {
		fmt.Fprintf(sum, "%q %s\n", name, t.files[name].Hash)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// report adds a finding about a kustomization file.
func (t *tree) report(code string, at place, message, suggestion string) {
	t.findings = append(t.findings, manifests.Diagnostic{
		Code: code, Message: message, Suggestion: suggestion, Excerpt: at.text, Width: at.width,
		Position: manifests.Position{Source: t.source, File: t.shown(at.file), Line: at.line, Column: at.column, Document: 1},
		Object:   "Kustomization",
	})
}
