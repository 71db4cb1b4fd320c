package git

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// TestMovesAreSeen waits for each way in which a reference moves.
func TestMovesAreSeen(t *testing.T) {
	w := newWork(t)
	first := w.commit("first", "a.yaml", "1")
	bare := w.bare()
	w.git("worktree", "add", "-q", "-b", "linked", filepath.Join(t.TempDir(), "linked"))
	for name, place := range map[string]struct {
		url   string
		moves []func() string
	}{
		"bare": {bare, []func() string{
			func() string { c := w.commit("pushed", "b.yaml", "1"); w.git("push", "-q", "origin", "main"); return c },
			func() string { w.git("push", "-q", "-f", "origin", first+":refs/heads/main"); return first },
			func() string {
				w.git("--git-dir", bare, "pack-refs", "--all")
				c := w.commit("packed")
				w.git("push", "-q", "-f", "origin", "main")
				return c
			},
		}},
		"work tree": {w.dir, []func() string{
			func() string { return w.commit("committed", "c.yaml", "1") },
			func() string { w.git("checkout", "-q", "-b", "feature/x", first); return first },
			func() string { return w.commit("on a branch", "d.yaml", "1") },
			func() string { w.git("gc", "-q", "--prune=now"); return w.commit("after gc", "e.yaml", "1") },
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := source(t, Config{URL: place.url, Interval: time.Hour})
			ctx, cancel := context.WithCancel(t.Context())
			hints, done := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				done <- s.Watch(ctx, func() {
					select {
					case hints <- struct{}{}:
					default:
					}
				})
			}()
			defer func() {
				cancel()
				must(t, <-done)
			}()
			<-hints // everything is being watched
			snapshot(t, s)
			for i, move := range place.moves {
				start := time.Now()
				want := move()
				deadline := time.After(5 * time.Second)
				for seen := ""; seen != want; {
					select {
					case <-hints:
						snap := snapshot(t, s)
						contents(t, snap)
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
