package git

import (
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

// TestMovesAreSeen waits for each way in which a reference moves.
func TestMovesAreSeen(t *testing.T) {
	push := func(w *work, what string) { w.git("push", "-q", "-f", "origin", what+":refs/heads/main") }
	for name, place := range map[string]struct {
		url   func(w *work) string
		moves []func(w *work, first string) string
	}{
		"bare": {(*work).bare, []func(*work, string) string{
			func(w *work, _ string) string {
				c := w.commit("pushed", "b.yaml", "1")
				push(w, c)
				return c
			},
			func(w *work, first string) string { push(w, first); return first },
			func(w *work, _ string) string {
				w.git("--git-dir", w.git("remote", "get-url", "origin"), "pack-refs", "--all")
				c := w.commit("packed")
				push(w, c)
				return c
			},
		}},
		"work tree": {func(w *work) string { return w.dir }, []func(*work, string) string{
			func(w *work, _ string) string { return w.commit("committed", "c.yaml", "1") },
			func(w *work, first string) string { w.git("checkout", "-q", "-b", "feature/x", first); return first },
			func(w *work, _ string) string { return w.commit("on a branch", "d.yaml", "1") },
			func(w *work, _ string) string {
				w.git("gc", "-q", "--prune=now")
				return w.commit("after gc", "e.yaml", "1")
			},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(t)
			first := w.commit("first", "a.yaml", "1")
			s := source(t, Config{URL: place.url(w), Interval: time.Hour})
			hints := manifeststest.Watch(t, s)
			snapshot(t, s)
			for i, move := range place.moves {
				start := time.Now()
				want := move(w, first)
				deadline := time.After(30 * time.Second)
				for seen := ""; seen != want; {
					select {
					case <-hints:
						snap := snapshot(t, s)
						manifeststest.Contents(t, snap)
						seen = snap.Revision
					case <-deadline:
						t.Fatalf("move %d: not seen", i)
					}
				}
				t.Logf("move %d: seen after %v", i, time.Since(start).Round(time.Millisecond))
			}
		})
	}
}
