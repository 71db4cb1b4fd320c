package kustomize

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/evenkeel/evenkeel/manifests"
)

// top is where the source lies in the file system that kustomize sees. A path
// that leads out of it finds nothing.
const top = "/source"

// files is the file system that kustomize sees: a snapshot's, and read-only.
type files struct {
	tree  *tree
	given map[string][]byte // kustomizations as they are to be read
	err   error             // of a file whose content is unknown
}

var (
	_ filesys.FileSystem = (*files)(nil)

	errReadOnly = errors.New("the source is read-only")
)

// name is a path within the source.
func name(p string) (string, bool) {
	p = path.Clean("/" + p)
	if p == top {
		return ".", true
	}
	return strings.CutPrefix(p, top+"/")
}

// ReadFile gives a file of the source. A kustomization is given only as it was
// checked.
func (f *files) ReadFile(p string) ([]byte, error) {
	within, ok := name(p)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: p, Err: fs.ErrNotExist}
	}
	if data, ok := f.given[within]; ok {
		return data, nil
	}
	file, ok := f.tree.files[within]
	if !ok || manifests.IsKustomization(within) {
		return nil, &fs.PathError{Op: "read", Path: within, Err: fs.ErrNotExist}
	}
	data, err := file.Read()
	if manifests.IsUnavailable(err) {
		f.err = err
	}
	return data, err
}

// IsDir reports whether a directory of the source has that path.
func (f *files) IsDir(p string) bool {
	within, ok := name(p)
	_, is := f.tree.dirs[within]
	return ok && is
}

// Exists reports whether a file or directory of the source has that path.
func (f *files) Exists(p string) bool {
	within, ok := name(p)
	_, is := f.tree.files[within]
	_, given := f.given[within]
	return ok && (is || given) || f.IsDir(p)
}

// ReadDir lists the names in a directory.
func (f *files) ReadDir(p string) ([]string, error) {
	if !f.IsDir(p) {
		return nil, &fs.PathError{Op: "list", Path: p, Err: fs.ErrNotExist}
	}
	within, _ := name(p)
	names := slices.Clone(f.tree.dirs[within])
	slices.Sort(names)
	return names, nil
}

// CleanedAbs splits a path into a directory and a file.
func (f *files) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	within, ok := name(p)
	if !ok || !f.Exists(p) {
		return "", "", fmt.Errorf("there is no %q in the source", strings.TrimPrefix(p, top+"/"))
	}
	clean := path.Join(top, within)
	if f.IsDir(p) {
		return filesys.ConfirmedDir(clean), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(clean)), path.Base(clean), nil
}

// Glob lists the files that match a pattern.
func (f *files) Glob(pattern string) ([]string, error) {
	var out []string
	for file := range f.tree.files {
		full := path.Join(top, file)
		ok, err := path.Match(pattern, full)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, full)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Create, Mkdir, MkdirAll, RemoveAll, WriteFile, Open and Walk are never
// called to render, and refuse.
func (f *files) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir refuses.
func (f *files) Mkdir(string) error { return errReadOnly }

// MkdirAll refuses.
func (f *files) MkdirAll(string) error { return errReadOnly }

// RemoveAll refuses.
func (f *files) RemoveAll(string) error { return errReadOnly }

// WriteFile refuses.
func (f *files) WriteFile(string, []byte) error { return errReadOnly }

// Open refuses.
func (f *files) Open(string) (filesys.File, error) { return nil, errReadOnly }

// Walk refuses.
func (f *files) Walk(string, filepath.WalkFunc) error { return errReadOnly }
