package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	dataLink = "..data"     // points at the directory in force
	newLink  = "..data_tmp" // becomes it by a rename
	setsGlob = "..set-*"    // directories with a set of files each
)

// publish makes files the content of a directory in one step, as Kubernetes
// does: a container sees "name", a link to "..data/name", and "..data" is
// switched from one set to the next. A group (or -1) owns and may read the
// files. It reports whether there was a change.
func publish(dir string, files map[string]file, group int) (changed bool, err error) {
	if group >= 0 {
		files = readableByGroup(files)
	}
	current, _ := os.Readlink(filepath.Join(dir, dataLink))
	if current != "" && same(filepath.Join(dir, current), files) {
		return false, link(dir, files)
	}
	set, err := os.MkdirTemp(dir, setsGlob)
	if err != nil {
		return false, fmt.Errorf("make a new set of files: %w", err)
	}
	if err := writeSet(set, files, group); err != nil {
		return false, errors.Join(err, os.RemoveAll(set))
	}
	if err := switchTo(dir, filepath.Base(set)); err != nil {
		return false, errors.Join(err, os.RemoveAll(set))
	}
	if err := link(dir, files); err != nil {
		return true, err
	}
	return true, sweep(dir, filepath.Base(set))
}

func readableByGroup(files map[string]file) map[string]file {
	readable := make(map[string]file, len(files))
	for name, f := range files {
		f.mode |= 0o440
		readable[name] = f
	}
	return readable
}

// same reports whether a set holds exactly these files.
func same(set string, files map[string]file) bool {
	seen := 0
	err := filepath.WalkDir(set, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(set, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		want, ok := files[filepath.ToSlash(name)]
		if err != nil || !ok || !bytes.Equal(data, want.data) || info.Mode().Perm() != want.mode {
			return errors.Join(err, fs.ErrInvalid)
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

func writeSet(set string, files map[string]file, group int) error {
	if err := os.Chmod(set, 0o755); err != nil {
		return fmt.Errorf("write files: %w", err)
	}
	for name, f := range files {
		path := filepath.Join(set, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
		if err := os.Chown(path, f.user, group); err != nil {
			return fmt.Errorf("write files: %w", err)
		}
		if err := os.Chmod(path, f.mode); err != nil { // what the umask took
			return fmt.Errorf("write files: %w", err)
		}
	}
	return nil
}

func switchTo(dir, set string) error {
	next := filepath.Join(dir, newLink)
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("switch to new files: %w", err)
	}
	if err := os.Symlink(set, next); err != nil {
		return fmt.Errorf("switch to new files: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("switch to new files: %w", err)
	}
	return nil
}

// link makes the names that containers open, one for each first part of a path.
func link(dir string, files map[string]file) error {
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		err := os.Symlink(filepath.Join(dataLink, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link %s: %w", first, err)
		}
	}
	return nil
}

// sweep deletes earlier sets, and names that lead nowhere any more.
func sweep(dir, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep old files: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(dir, name)
		switch {
		case name == dataLink || name == current:
			continue
		case strings.HasPrefix(name, "..set-"):
			err = os.RemoveAll(path)
		case entry.Type()&fs.ModeSymlink != 0:
			if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
				err = os.Remove(path)
			}
		}
		if err != nil {
			return fmt.Errorf("sweep old files: %w", err)
		}
	}
	return nil
}
