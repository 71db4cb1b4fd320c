package git

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestLastChanges compares with what the git program says of a history with
// branches and merges.
func TestLastChanges(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWork(t)
	files := []string{"a.yaml", "apps/b.yaml", "apps/deep/c.yaml", "apps/deep/d.yaml", "e.yaml"}
	for i, file := range files {
		w.commit(fmt.Sprint("make ", i), file, "first\n")
	}
	w.git("checkout", "-q", "-b", "side")
	branches := []string{"side", "main"}
	for i := range 24 {
		w.git("checkout", "-q", branches[i%2])
		if i%7 == 6 {
			w.git("merge", "-q", "-X", "ours", "--no-edit", branches[(i+1)%2])
			continue
		}
		w.commit(fmt.Sprint("change ", i), files[random.IntN(len(files))], fmt.Sprintf("%d\n", i))
	}
	for _, below := range []string{"", "apps"} {
		s, err := New(Config{URL: w.dir, Path: below})
		if err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range snap.Files {
			names = append(names, f.Path)
		}
		late, cancel := context.WithCancel(t.Context()) // these few are looked at however long it takes
		cancel()
		got := s.LastChanges(late, snap.Revision, append(names, "none.yaml"))
		if len(got) != len(names) {
			t.Errorf("%d commits for %d files", len(got), len(names))
		}
		for _, name := range names {
			full := name
			if below != "" {
				full = below + "/" + name
			}
			if want := w.git("log", "-1", "--format=%H", "--", full); got[name] == nil || got[name].ID != want {
				t.Errorf("%s: %v, want %s", full, got[name], want)
			}
		}
	}
}
