package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repo is a git repository with a worktree.
type repo struct {
	t   *testing.T
	dir string
}

// newRepo makes a repository without a commit below the world's directory.
func (w *world) newRepo(name string) repo {
	w.t.Helper()
	r := repo{w.t, filepath.Join(w.dir, name)}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r repo) read(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// replace changes a file's text, which must hold what is replaced.
func (r repo) replace(name, old, with string) {
	r.t.Helper()
	text := r.read(name)
	if !strings.Contains(text, old) {
		r.t.Fatalf("%s does not hold %q", name, old)
	}
	r.write(name, strings.Replace(text, old, with, 1))
}

// commit commits all that is in the worktree, and returns its id.
func (r repo) commit(subject string) string {
	r.t.Helper()
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message="+subject)
	return r.git("rev-parse", "HEAD")
}

// addGuestbook writes the example's manifests.
func (r repo) addGuestbook() {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "testdata", "guestbook", "*.yaml"))
	if err != nil || len(files) == 0 {
		r.t.Fatalf("no manifests of the guestbook: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			r.t.Fatal(err)
		}
		r.write(filepath.Base(file), string(text))
	}
}
