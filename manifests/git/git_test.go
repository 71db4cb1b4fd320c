package git

import (
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
	"github.com/evenkeel/evenkeel/testdata/requires"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// work is a work tree that tests commit to with the git program.
type work struct {
	t   *testing.T
	dir string
}

func newWork(t *testing.T) *work {
	t.Helper()
	requires.Programs(t, "git")
	w := &work{t: t, dir: t.TempDir()}
	w.git("init", "-q", "-b", "main")
	return w
}

func (w *work) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, given as path, content, …, and returns the commit.
func (w *work) commit(subject string, files ...string) string {
	w.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(w.dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", subject)
	return w.git("rev-parse", "HEAD")
}

// bare makes a bare clone, and has the work tree push to it.
func (w *work) bare() string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "repo.git")
	w.git("clone", "-q", "--bare", ".", dir)
	w.git("remote", "add", "origin", dir)
	return dir
}

// serve serves a bare repository over HTTP with git's own backend.
func serve(t *testing.T, bare string, handlers ...func(http.Handler) http.Handler) string {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Stderr: io.Discard,
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	for _, wrap := range handlers {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL + "/" + filepath.Base(bare)
}

func source(t *testing.T, cfg Config) *Source {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshot(t *testing.T, s *Source) manifests.Snapshot {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// TestEveryKindOfPlace reads the same commits from a work tree, a linked work
// tree, a bare repository, a file URL and over HTTP.
func TestEveryKindOfPlace(t *testing.T) {
	for name, place := range map[string]func(*testing.T, *work) string{
		"work tree": func(_ *testing.T, w *work) string { return w.dir },
		"linked work tree": func(t *testing.T, w *work) string {
			dir := filepath.Join(t.TempDir(), "linked")
			w.git("worktree", "add", "-q", "--detach", dir)
			return dir
		},
		"bare":     func(_ *testing.T, w *work) string { return w.bare() },
		"file URL": func(_ *testing.T, w *work) string { return "file://" + w.bare() },
		"HTTP":     func(t *testing.T, w *work) string { return serve(t, w.bare()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t)
			first := w.commit("first", "a.yaml", "1", "README.md", "x", "deploy/b.yml", "b", "deploy/.c.yaml", "x", ".d/e.yaml", "x")
			w.git("tag", "-a", "v1", "-m", "one")
			if err := os.Symlink("a.yaml", filepath.Join(w.dir, "link.yaml")); err != nil {
				t.Fatal(err)
			}
			second := w.commit("second\n\nbody", "a.yaml", "2")
			w.git("branch", "other", first)
			url := place(t, w)

			snap := snapshot(t, source(t, Config{URL: url}))
			want := map[string]string{"a.yaml": "2", "deploy/b.yml": "b"}
			if diff := cmp.Diff(want, manifeststest.Contents(t, snap)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if len(snap.Findings) != 1 || snap.Findings[0].Code != manifests.CodeLinkSkipped || snap.Findings[0].Position.File != "link.yaml" {
				t.Errorf("findings: %v", snap.Findings)
			}
			commit := *snap.Commit
			commit.Time = time.Time{}
			if diff := cmp.Diff(manifests.Commit{ID: second, Author: "Ann <ann@example.org>", Subject: "second", Parents: []string{first}}, commit); diff != "" {
				t.Errorf("commit (-want +got):\n%s", diff)
			}
			for _, ref := range []string{"v1", "other", "refs/heads/other", first} {
				got := snapshot(t, source(t, Config{URL: url, Ref: ref, Path: "/deploy/"}))
				if diff := cmp.Diff(map[string]string{"b.yml": "b"}, manifeststest.Contents(t, got)); diff != "" || got.Revision != first {
					t.Errorf("%s: commit %s, want %s; files:\n%s", ref, got.Revision, first, diff)
				}
			}
		})
	}
}

func TestUnknownIsNotEmpty(t *testing.T) {
	w := newWork(t)
	w.commit("first", "a.yaml", "1")
	url := serve(t, w.bare())
	empty := filepath.Join(t.TempDir(), "empty.git")
	w.git("init", "-q", "--bare", empty)
	for name, cfg := range map[string]Config{
		"no repository":        {URL: t.TempDir()},
		"no directory":         {URL: "/does/not/exist"},
		"no such branch":       {URL: w.dir, Ref: "none"},
		"no such path":         {URL: w.dir, Path: "none"},
		"no commit":            {URL: empty},
		"remote: no server":    {URL: "http://127.0.0.1:1/x.git"},
		"remote: none there":   {URL: url + "x"},
		"remote: no branch":    {URL: url, Ref: "none"},
		"remote: no such path": {URL: url, Path: "none"},
		"remote: no commit":    {URL: serve(t, empty)},
	} {
		t.Run(name, func(t *testing.T) {
			snap, err := source(t, cfg).Snapshot(t.Context())
			if !manifests.IsUnavailable(err) || !strings.Contains(err.Error(), cfg.URL) {
				t.Errorf("got %v, %v", snap, err)
			}
			t.Log(err)
		})
	}
}

func TestRemoteFollows(t *testing.T) {
	w := newWork(t)
	w.commit("first", "a.yaml", "1")
	bare := w.bare()
	cache := t.TempDir()
	s := source(t, Config{URL: serve(t, bare), Dir: cache})
	first := snapshot(t, s)

	second := w.commit("second", "b.yaml", "1")
	w.git("push", "-q", "origin", "main")
	snap := snapshot(t, s)
	if diff := cmp.Diff(map[string]string{"a.yaml": "1", "b.yaml": "1"}, manifeststest.Contents(t, snap)); diff != "" || snap.Revision != second || snap.Commit.Forced {
		t.Errorf("%s, forced %v, files:\n%s", snap.Revision, snap.Commit.Forced, diff)
	}

	w.git("reset", "-q", "--hard", first.Revision)
	forced := w.commit("third", "c.yaml", "1")
	w.git("push", "-q", "-f", "origin", "main")
	snap = snapshot(t, s)
	if diff := cmp.Diff(map[string]string{"a.yaml": "1", "c.yaml": "1"}, manifeststest.Contents(t, snap)); diff != "" || snap.Revision != forced || !snap.Commit.Forced {
		t.Errorf("%s, forced %v, files:\n%s", snap.Revision, snap.Commit.Forced, diff)
	}

	again := snapshot(t, source(t, Config{URL: s.cfg.URL, Dir: cache})) // from the cache
	if again.Revision != forced || again.Tree != snap.Tree {
		t.Errorf("from the cache: %s, %s", again.Revision, again.Tree)
	}
}

// TestBrokenCacheIsMadeAgain breaks the cache in several ways.
func TestBrokenCacheIsMadeAgain(t *testing.T) {
	for name, breaking := range map[string]func(t *testing.T, dir string){
		"no HEAD": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "HEAD"))) },
		"packs cut": func(t *testing.T, dir string) {
			packs, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
			for _, p := range packs {
				must(t, os.Chmod(p, 0o644))
				must(t, os.Truncate(p, 20))
			}
		},
		"packs gone": func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "objects"))) },
		"too many packs": func(t *testing.T, dir string) {
			packs, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
			for i := range maxPacks + 1 {
				must(t, os.WriteFile(packs[0]+strings.Repeat("x", i+1)+".pack", nil, 0o644))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t)
			w.commit("first", "a.yaml", "1")
			url, cache := serve(t, w.bare()), t.TempDir()
			s := source(t, Config{URL: url, Dir: cache})
			snapshot(t, s)
			breaking(t, s.cacheDir())
			w.commit("second", "a.yaml", "2")
			w.git("push", "-q", "origin", "main")
			for _, s := range []*Source{s, source(t, Config{URL: url, Dir: cache})} {
				if diff := cmp.Diff(map[string]string{"a.yaml": "2"}, manifeststest.Contents(t, snapshot(t, s))); diff != "" {
					t.Error(diff)
				}
			}
			left, _ := filepath.Glob(filepath.Join(cache, "*.new-*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokenBlobHeals(t *testing.T) {
	w := newWork(t)
	w.commit("first", "a.yaml", "1")
	s := source(t, Config{URL: serve(t, w.bare())})
	snap := snapshot(t, s)
	must(t, os.RemoveAll(filepath.Join(s.cacheDir(), "objects", "pack")))
	s.repo = nil // as after a restart, without the objects held in memory
	reopened := source(t, s.cfg)
	reopened.last, reopened.repo = s.last, mustOpen(t, s.cacheDir())
	if _, err := reopened.reader(hashOf(snap.Files[0].Hash))(); !manifests.IsUnavailable(err) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(map[string]string{"a.yaml": "1"}, manifeststest.Contents(t, snapshot(t, reopened))); diff != "" {
		t.Error(diff)
	}
}

func TestCredentials(t *testing.T) {
	w := newWork(t)
	w.commit("first", "a.yaml", "1")
	guard := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ann" || password != "canary" {
				rw.Header().Set("WWW-Authenticate", "Basic")
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
	url := serve(t, w.bare(), guard)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("NETRC", "")
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	ok := func(url string) {
		t.Helper()
		s := source(t, Config{URL: url})
		snap, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(snap.Location+s.Name(), "canary") {
			t.Errorf("the password is shown: %s, %s", snap.Location, s.Name())
		}
	}
	if _, err := source(t, Config{URL: url}).Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), envPassword) {
		t.Errorf("without credentials: %v", err)
	}
	bad := strings.Replace(url, "http://", "http://ann:secretwrong@", 1)
	if _, err := source(t, Config{URL: bad}).Snapshot(t.Context()); err == nil || strings.Contains(err.Error(), "secretwrong") {
		t.Errorf("with wrong credentials: %v", err)
	}
	ok(strings.Replace(url, "http://", "http://ann:canary@", 1))
	must(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte("[credential]\n\thelper = \"!f() { echo username=ann; echo password=canary; }; f\"\n"), 0o600))
	ok(url)
	must(t, os.Remove(filepath.Join(home, ".gitconfig")))
	must(t, os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine other login x password y\nmachine 127.0.0.1\n  login ann\n  password canary\n"), 0o600))
	ok(url)
	must(t, os.Remove(filepath.Join(home, ".netrc")))
	t.Setenv(envUser, "ann")
	t.Setenv(envPassword, "canary")
	ok(url)
}

func TestParsePlace(t *testing.T) {
	dir := t.TempDir()
	type result struct {
		Path, Shown, Protocol, User string
	}
	for raw, want := range map[string]result{
		dir:                                     {Path: dir, Shown: dir},
		"file://" + dir:                         {Path: dir, Shown: dir},
		"https://example.org/a/b.git":           {Shown: "https://example.org/a/b.git", Protocol: "https"},
		"https://token:x@example.org/a.git":     {Shown: "https://example.org/a.git", Protocol: "https", User: "token"},
		"ssh://git:pw@example.org:22/a.git":     {Shown: "ssh://git@example.org:22/a.git", Protocol: "ssh", User: "git"},
		"git@example.org:a/b.git":               {Shown: "git@example.org:a/b.git", Protocol: "ssh", User: "git"},
		"ftp://example.org/a":                   {},
		"relative":                              {},
		"":                                      {},
		"https://ex ample.org/with a space.git": {},
	} {
		pl, err := parsePlace(raw)
		got := result{Path: pl.path, Shown: pl.shown}
		if pl.endpoint != nil {
			got.Protocol, got.User = pl.endpoint.Protocol, pl.endpoint.User
		}
		if diff := cmp.Diff(want, got); diff != "" || (err != nil) != (want == result{}) {
			t.Errorf("%q: %v\n%s", raw, err, diff)
		}
	}
	w := newWork(t)
	for place, want := range map[string]bool{w.dir: true, dir: false, "git@example.org:a.git": true, "https://example.org/a": true, "./nowhere": false} {
		if got := IsRepository(place); got != want {
			t.Errorf("IsRepository(%q) = %v", place, got)
		}
	}
}

func mustOpen(t *testing.T, dir string) *gogit.Repository {
	t.Helper()
	repo, err := gogit.PlainOpen(dir)
	must(t, err)
	return repo
}

func hashOf(file string) plumbing.Hash { return plumbing.NewHash(strings.TrimPrefix(file, "git:")) }
