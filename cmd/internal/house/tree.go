package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the path that the project's own imports begin with.
const module = "github.com/evenkeel/evenkeel"

// Tree is the project's text, with Go files parsed. It is read-only.
type Tree struct {
	Files []File // sorted by path
	fset  *token.FileSet
}

// File is one file of the project.
type File struct {
	Path   string // relative to the project, with slashes
	Text   []byte
	Syntax *ast.File // nil for what is not Go
}

// Violation is one place that breaks a rule, and why that is not wanted.
type Violation struct {
	Place string // path, or path:line
	What  string
}

func (v Violation) String() string { return v.Place + ": " + v.What }

// skippedDirs hold nothing that was written for this project.
var skippedDirs = []string{".git", ".build"}

// readExts are the endings of files that are read; so are files without one.
var readExts = []string{".go", ".md", ".yaml", ".yml", ".json", ".sh", ".txt", ".txtar", ".conf", ""}

// Read reads a project. A Go file that does not parse is an error.
func Read(fsys fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skippedDirs, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !slices.Contains(readExts, path.Ext(name)) {
			return nil
		}
		return t.read(fsys, name)
	})
	return t, err
}

func (t *Tree) read(fsys fs.FS, name string) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // no text
	}
	f := File{Path: name, Text: text}
	if path.Ext(name) == ".go" {
		f.Syntax, err = parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
	}
	t.Files = append(t.Files, f)
	return nil
}

// Dir is the directory of the file, which is its package's path within the
// project.
func (f File) Dir() string { return path.Dir(f.Path) }

// IsTest reports whether the file is built only for tests.
func (f File) IsTest() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Lines is how many lines the file has.
func (f File) Lines() int { return bytes.Count(f.Text, []byte("\n")) }

// goFiles are the files that were parsed and that people wrote.
func (t *Tree) goFiles() []File {
	return slices.DeleteFunc(slices.Clone(t.Files), func(f File) bool {
		return f.Syntax == nil || ast.IsGenerated(f.Syntax)
	})
}

// at is the place of a node of a file.
func (t *Tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// importPath is the unquoted path of an import.
func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return spec.Path.Value
	}
	return p
}
