package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tarTool makes an archive of a path on standard output ("cf - PATH"), or
// unpacks one from standard input ("-xmf - [-C DIR]").
func tarTool(args []string) error {
	dir, mode := ".", ""
	var paths []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-C" && i+1 < len(args):
			i++
			dir = args[i]
		case arg == "-" || strings.HasPrefix(arg, "--"):
		case mode == "":
			mode = strings.TrimPrefix(arg, "-")
		default:
			paths = append(paths, arg)
		}
	}
	switch {
	case strings.HasPrefix(mode, "x"):
		return unpack(tar.NewReader(os.Stdin), dir)
	case strings.HasPrefix(mode, "c") && len(paths) == 1:
		return pack(paths[0])
	}
	return fmt.Errorf("cannot do %q", args)
}

func pack(path string) error {
	w := tar.NewWriter(os.Stdout)
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = strings.TrimPrefix(name, "/")
		if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close())
}

func unpack(r *tar.Reader, dir string) error {
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, header.Name)
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = unpackFile(r, path)
		}
		if err != nil {
			return err
		}
	}
}

// unpackFile writes a file, and makes the directories that it is in.
func unpackFile(r io.Reader, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
