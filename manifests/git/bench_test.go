package git

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

const many = 10_000

// BenchmarkColdAndWarm reads 10,000 config maps in as many files of a bare
// repository, first with nothing known, then after a commit to one of them.
func BenchmarkColdAndWarm(b *testing.B) {
	requires.Programs(b, "git")
	dir := b.TempDir()
	run := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-c", "gc.auto=0", "-c", "maintenance.auto=false"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	put := func(i, version int) {
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c%d\n  labels:\n    app: web\ndata:\n  version: \"%d\"\n  text: |\n    some\n    lines\n", i, version)
		path := filepath.Join(dir, fmt.Sprintf("d%d/c%d.yaml", i%50, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	run("init", "-q", "-b", "main")
	for i := range many {
		put(i, 0)
	}
	run("add", "-A")
	run("commit", "-q", "-m", "first")
	run("gc", "-q")
	newSource := func() *Source {
		s, err := New(Config{URL: dir})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			manifeststest.Load(b, newSource(), manifests.NewLoader(), many)
		}
	})
	s, l := newSource(), manifests.NewLoader()
	manifeststest.Load(b, s, l, many)
	b.Run("one file changed", func(b *testing.B) {
		for version := 1; b.Loop(); version++ {
			b.StopTimer()
			put(7, version)
			run("commit", "-q", "-a", "-m", "next")
			b.StartTimer()
			manifeststest.Load(b, s, l, many)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			manifeststest.Load(b, s, l, many)
		}
	})
}
