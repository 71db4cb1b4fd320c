package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// PackageComments finds packages that do not have exactly one comment of their
// own, beginning with the package's name.
func PackageComments(t *Tree) []Violation {
	comments := map[string][]File{}
	names := map[string]string{}
	for _, f := range t.goFiles() {
		if f.IsTest() {
			continue
		}
		names[f.Dir()] = f.Syntax.Name.Name
		if f.Syntax.Doc != nil {
			comments[f.Dir()] = append(comments[f.Dir()], f)
		}
	}
	var out []Violation
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		out = append(out, packageComment(dir, names[dir], comments[dir])...)
	}
	return out
}

func packageComment(dir, name string, files []File) []Violation {
	if len(files) != 1 {
		return []Violation{{dir, fmt.Sprintf("%d package comments; one says what it does, who calls it and what it never does", len(files))}}
	}
	begin := "Package " + name + " "
	if name == "main" {
		begin = "Command "
	}
	if text := files[0].Syntax.Doc.Text(); !strings.HasPrefix(text, begin) {
		return []Violation{{files[0].Path, fmt.Sprintf("the package comment must begin with %q", begin)}}
	}
	return nil
}

// Sleeps finds tests that wait for a time and not for what they wait for.
func Sleeps(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.goFiles() {
		if !f.IsTest() {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || s.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
				out = append(out, Violation{t.at(n), "time.Sleep in a test: wait for the event, with a bound, or use testing/synctest"})
			}
			return true
		})
	}
	return out
}

// maxLines is how long a file may be.
const maxLines = 500

// LongFiles finds files that hold more than one concept can need.
func LongFiles(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.goFiles() {
		if n := f.Lines(); n > maxLines {
			out = append(out, Violation{f.Path, fmt.Sprintf("%d lines; at most %d: split it by concept", n, maxLines)})
		}
	}
	return out
}

// emptyNames say nothing about what they name.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "shared"}

// EmptyNames finds packages and files whose name says nothing.
func EmptyNames(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.goFiles() {
		file := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.Path), ".go"), "_test")
		pkg := strings.TrimSuffix(f.Syntax.Name.Name, "_test")
		if slices.Contains(emptyNames, pkg) {
			out = append(out, Violation{f.Path, fmt.Sprintf("the package name %q says nothing: name what it is", pkg)})
		}
		if slices.Contains(emptyNames, file) {
			out = append(out, Violation{f.Path, "the file's name says nothing: name its concept"})
		}
	}
	return out
}

// machinePath is a directory that only somebody's own machine has.
var machinePath = regexp.MustCompile(`/(home|Users|root|work|workspace)/[a-zA-Z0-9._-]`)

// MachinePaths finds paths of the machine that something was written on.
func MachinePaths(t *Tree) []Violation {
	var out []Violation
	for _, f := range t.Files {
		for i, line := range bytes.Split(f.Text, []byte("\n")) {
			if m := machinePath.Find(line); m != nil {
				out = append(out, Violation{fmt.Sprintf("%s:%d", f.Path, i+1), fmt.Sprintf("%s… is a path of one machine", m)})
			}
		}
	}
	return out
}
