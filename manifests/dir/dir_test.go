package dir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func source(t *testing.T, path string) *Source {
	t.Helper()
	s, err := New(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t *testing.T, s *Source) (manifests.Snapshot, map[string]string) {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snap, manifeststest.Contents(t, snap)
}

func TestSnapshot(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"a.yaml": "a", "sub/b.yml": "b", "sub/deep/c.json": "c",
		".hidden.yaml": "x", ".git/config.yaml": "x", "sub/.x/y.yaml": "x", "README.md": "x", "a.yaml~": "x",
		"..2024/mounted.yaml": "m", "elsewhere/d.yaml": "d",
	} {
		write(t, filepath.Join(root, path), content)
	}
	for link, target := range map[string]string{
		"..data": "..2024", "mounted.yaml": "..data/mounted.yaml", "loop": ".", "linked": "elsewhere", "broken": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := source(t, root)
	snap, files := read(t, s)
	want := map[string]string{"a.yaml": "a", "sub/b.yml": "b", "sub/deep/c.json": "c", "mounted.yaml": "m", "elsewhere/d.yaml": "d"}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	again, _ := read(t, s)
	if again.Tree != snap.Tree || again.Revision == "" {
		t.Errorf("tree changed without a change: %s, %s", snap.Tree, again.Tree)
	}
	write(t, filepath.Join(root, "a.yaml"), "A")
	changed, files := read(t, s)
	if changed.Tree == snap.Tree || files["a.yaml"] != "A" {
		t.Errorf("change not seen: %v", files)
	}
}

func TestUnknownIsNotEmpty(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	s := source(t, root)
	unavailable := func(about string) {
		t.Helper()
		_, err := s.Snapshot(t.Context())
		if !manifests.IsUnavailable(err) || !strings.Contains(err.Error(), about) {
			t.Errorf("got %v, want an error about %s", err, about)
		}
	}
	unavailable(root)
	write(t, filepath.Join(root, "a.yaml"), "a")
	read(t, s)
	if err := os.Symlink("gone", filepath.Join(root, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	unavailable("b.yaml")
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	unavailable(root)
	write(t, root, "a file")
	unavailable(root)
}

func TestReadRefusesWhatHasChanged(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.yaml")
	write(t, path, "a")
	past := time.Now().Add(-time.Hour)
	s := source(t, root)
	read(t, s)
	read(t, s) // now it is known, and its content is not kept
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "b")
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	if data, err := snap.Files[0].Read(); err == nil && string(data) != "a" {
		t.Errorf("read %q, which is not in the snapshot", data)
	}
}

// TestAgeOf: a file that is written to while it is looked at is waited for, and
// one from the future is not.
func TestAgeOf(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	for changed, want := range map[int]time.Duration{1: 9 * time.Second, 10: 0, 11: 0, 12: 0, 13: -3 * time.Second} {
		if got := ageOf(at(changed), at(10), at(12)); got != want {
			t.Errorf("changed at %d: %v, want %v", changed, got, want)
		}
	}
}

// TestChangesAreSeen makes each change and waits for a snapshot that has it.
func TestChangesAreSeen(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(root, "a.yaml"), "1")
	write(t, filepath.Join(root, "..one/m.yaml"), "1")
	mustLink := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	mustRename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	mustLink("..one", filepath.Join(root, "..data"))
	mustLink("..data/m.yaml", filepath.Join(root, "m.yaml"))
	s := source(t, root)
	hints := manifeststest.Watch(t, s)
	for _, step := range []struct {
		name string
		do   func()
		want map[string]string
	}{
		{"write", func() { write(t, filepath.Join(root, "a.yaml"), "2") }, map[string]string{"a.yaml": "2", "m.yaml": "1"}},
		{"atomic rename", func() {
			write(t, filepath.Join(root, ".tmp"), "3")
			mustRename(filepath.Join(root, ".tmp"), filepath.Join(root, "a.yaml"))
		}, map[string]string{"a.yaml": "3", "m.yaml": "1"}},
		{"new directories", func() { write(t, filepath.Join(root, "x/y/z/b.yaml"), "1") }, map[string]string{"a.yaml": "3", "m.yaml": "1", "x/y/z/b.yaml": "1"}},
		{"in a new directory", func() { write(t, filepath.Join(root, "x/y/z/b.yaml"), "2") }, map[string]string{"a.yaml": "3", "m.yaml": "1", "x/y/z/b.yaml": "2"}},
		{"directory moved away", func() { mustRename(filepath.Join(root, "x"), filepath.Join(root, "../x")) }, map[string]string{"a.yaml": "3", "m.yaml": "1"}},
		{"directory moved in", func() { mustRename(filepath.Join(root, "../x"), filepath.Join(root, "w")) }, map[string]string{"a.yaml": "3", "m.yaml": "1", "w/y/z/b.yaml": "2"}},
		{"config map replaced", func() {
			write(t, filepath.Join(root, "..two/m.yaml"), "2")
			mustLink("..two", filepath.Join(root, "..tmp"))
			mustRename(filepath.Join(root, "..tmp"), filepath.Join(root, "..data"))
		}, map[string]string{"a.yaml": "3", "m.yaml": "2", "w/y/z/b.yaml": "2"}},
		{"root replaced", func() {
			mustRename(root, root+".old")
			write(t, filepath.Join(root, "n.yaml"), "1")
		}, map[string]string{"n.yaml": "1"}},
		{"in the new root", func() { write(t, filepath.Join(root, "n.yaml"), "2") }, map[string]string{"n.yaml": "2"}},
		{"removed", func() {
			if err := os.Remove(filepath.Join(root, "n.yaml")); err != nil {
				t.Fatal(err)
			}
		}, map[string]string{}},
	} {
		start := time.Now()
		step.do()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case <-hints:
			case <-deadline:
				t.Fatalf("%s: not seen", step.name)
			}
			if _, err := s.Snapshot(t.Context()); err != nil {
				continue // the root is on its way
			}
			if _, got := read(t, s); cmp.Equal(step.want, got) {
				break
			}
		}
		t.Logf("%s: seen after %v", step.name, time.Since(start).Round(time.Millisecond))
	}
}
