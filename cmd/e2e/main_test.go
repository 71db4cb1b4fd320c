package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/testdata/images"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

// root is the project's directory, seen from this package.
const root = "../.."

// baseEnv names the directory that the warden made for the tests.
const baseEnv = "EVENKEEL_E2E_BASE"

// binEnv names a directory with the three programs, built already.
const binEnv = "EVENKEEL_BIN"

// built is what all tests run.
var built struct{ base, bin, images, kubectl string }

const (
	guestbookImage = "evenkeel.io/guestbook:1"
	echoImage      = "evenkeel.io/echo:1"
)

// TestMain runs the tests in a child of this process, which stays behind to
// clear up whatever becomes of them.
func TestMain(m *testing.M) {
	base := os.Getenv(baseEnv)
	if base == "" {
		os.Exit(guard())
	}
	if missing() == nil {
		if err := build(base); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// missing says what these tests need and this machine lacks.
func missing() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("not root"))
	}
	for _, program := range []string{"containerd", "runc", "nft", "ip", "git", etcdProgram()} {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed", program))
		}
	}
	return errors.Join(errs...)
}

// require ends a test that cannot run here: with an error where everything
// has to run, else as skipped.
func require(t *testing.T) {
	t.Helper()
	if err := missing(); err != nil {
		requires.Unmet(t, "cannot run: "+err.Error())
	}
}

// build makes the programs and the images.
func build(base string) error {
	built.base, built.bin, built.images = base, filepath.Join(base, "bin"), filepath.Join(base, "images")
	if dir := os.Getenv(binEnv); dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(root, dir)
		}
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		built.bin = absolute
	}
	g, ctx := errgroup.WithContext(context.Background())
	if os.Getenv(binEnv) == "" {
		g.Go(func() error {
			cmd := exec.CommandContext(ctx, "go", "build", "-o", built.bin+"/", "./cmd/reconcile", "./cmd/nodeagent", "./cmd/proxy")
			cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build the programs: %w\n%s", err, out)
			}
			return nil
		})
	}
	g.Go(func() (err error) {
		built.kubectl, err = buildKubectl(ctx, base)
		return err
	})
	links := map[string][]string{"toolbox": toolboxLinks}
	for ref, dir := range map[string]string{guestbookImage: "guestbook", echoImage: "echo", toolboxImage: "toolbox"} {
		g.Go(func() error {
			return images.BuildWith(ctx, filepath.Join(root, "testdata", dir, "src"), ref, archive(dir), images.Options{Dirs: []string{"/data"}, Links: links[dir]})
		})
	}
	return g.Wait()
}

// archive is the file of an image.
func archive(name string) string { return filepath.Join(built.images, name+".tar") }
