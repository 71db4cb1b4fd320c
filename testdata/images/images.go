// Package images builds container images from Go programs, without docker or
// a registry. The Makefile calls it for the example, and tests for what they
// run. It never changes a container runtime: it writes archives.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Options change what an image says of itself.
type Options struct {
	// Name of the binary in the image. Default: the package directory's name,
	// or its parent's when that is "src".
	Name string
	// Links are further names of the binary, as "/cat".
	Links []string
	// User is "uid[:gid]" or a name. Default: 65532. "0" is root.
	User string
	// Ports that the program listens at, as "8080/tcp".
	Ports []string
	// Cmd are the arguments when none are given.
	Cmd []string
	// Env is "NAME=value".
	Env []string
	// Dirs are made empty and owned by everyone, as "/data".
	Dirs []string
	// Files are added, by absolute path.
	Files map[string][]byte
}

const defaultUser = "65532"

// Build compiles the main package in a directory to a static binary, and
// writes an image with it, named ref, to a docker archive. The same source
// and Go version give the same bytes. The archive appears whole or not at all.
func Build(ctx context.Context, goPackageDir, ref, out string) error {
	return BuildWith(ctx, goPackageDir, ref, out, Options{})
}

// BuildWith is Build with options.
func BuildWith(ctx context.Context, goPackageDir, ref, out string, opts Options) error {
	img, err := Image(ctx, goPackageDir, opts)
	if err != nil {
		return err
	}
	return Save(img, ref, out)
}

// Image compiles a main package and returns an image with it.
func Image(ctx context.Context, goPackageDir string, opts Options) (v1.Image, error) {
	if opts.Name == "" {
		opts.Name = programName(goPackageDir)
	}
	if opts.User == "" {
		opts.User = defaultUser
	}
	binary, err := compile(ctx, goPackageDir)
	if err != nil {
		return nil, err
	}
	layer, err := layerOf(opts, binary)
	if err != nil {
		return nil, fmt.Errorf("build image of %s: %w", goPackageDir, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("build image of %s: %w", goPackageDir, err)
	}
	img, err = mutate.ConfigFile(img, configOf(img, opts))
	if err != nil {
		return nil, fmt.Errorf("build image of %s: %w", goPackageDir, err)
	}
	return img, nil
}

// Save writes an image to a docker archive.
func Save(img v1.Image, ref, out string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("save image %s: %w", ref, err)
	}
	part := filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".part")
	if err := tarball.WriteToFile(part, tag, img); err != nil {
		return errors.Join(fmt.Errorf("save image %s: %w", ref, err), os.RemoveAll(part))
	}
	if err := os.Rename(part, out); err != nil {
		return fmt.Errorf("save image %s: %w", ref, err)
	}
	return nil
}

func programName(dir string) string {
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	if filepath.Base(dir) == "src" {
		dir = filepath.Dir(dir)
	}
	return filepath.Base(dir)
}

func compile(ctx context.Context, dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "evenkeel-image-")
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", dir, err)
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w\n%s", dir, err, output)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", dir, err)
	}
	return data, nil
}

func configOf(img v1.Image, opts Options) *v1.ConfigFile {
	config, err := img.ConfigFile()
	if err != nil {
		config = &v1.ConfigFile{}
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.History = []v1.History{{Created: config.Created, CreatedBy: "evenkeel testdata/images"}}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + opts.Name}, Cmd: opts.Cmd, User: opts.User, WorkingDir: "/",
		Env: append([]string{"PATH=/"}, opts.Env...),
	}
	for _, port := range opts.Ports {
		if config.Config.ExposedPorts == nil {
			config.Config.ExposedPorts = map[string]struct{}{}
		}
		config.Config.ExposedPorts[port] = struct{}{}
	}
	return config
}

func layerOf(opts Options, binary []byte) (v1.Layer, error) {
	files := map[string][]byte{"/" + opts.Name: binary}
	for name, data := range opts.Files {
		files[path.Clean(name)] = data
	}
	data, err := tarOf(files, append([]string{"/tmp"}, opts.Dirs...), "/"+opts.Name, opts.Links)
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
}

// tarOf writes directories and files in order of name, and links to the
// executable, all at time zero.
func tarOf(files map[string][]byte, dirs []string, executable string, links []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range dirs {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: relative(dir) + "/", Mode: 0o1777, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	for _, file := range sortedNames(files) {
		mode := int64(0o644)
		if file == executable {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: relative(file), Size: int64(len(files[file])), Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[file]); err != nil {
			return nil, err
		}
	}
	for _, link := range links {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: relative(link), Linkname: executable, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func relative(name string) string { return path.Clean("/" + name)[1:] }

func sortedNames(files map[string][]byte) []string { return slices.Sorted(maps.Keys(files)) }
