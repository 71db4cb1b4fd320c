// Package manifeststest reads and watches sources of manifests, for the tests
// of each kind of source. Only tests import it.
package manifeststest

import (
	"context"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
)

// Contents reads a snapshot's files, by path.
func Contents(t testing.TB, snap manifests.Snapshot) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, f := range snap.Files {
		data, err := f.Read()
		if err != nil {
			t.Fatalf("%s: %v", f.Path, err)
		}
		files[f.Path] = string(data)
	}
	return files
}

// Assets reads a snapshot's assets, by path. One that cannot be read is its
// error instead, which must not be one that may pass.
func Assets(t testing.TB, snap manifests.Snapshot) map[string]string {
	t.Helper()
	assets := map[string]string{}
	for _, f := range snap.Assets {
		data, err := f.Read()
		if err != nil {
			data = []byte(err.Error())
			if manifests.IsUnavailable(err) {
				t.Errorf("%s: %v may pass", f.Path, err)
			}
		}
		assets[f.Path] = string(data)
	}
	return assets
}

// Watch watches a source until the test ends, and returns when everything is
// being watched. The channel holds at most one hint: many are as good as one.
func Watch(t testing.TB, s manifests.Source) <-chan struct{} {
	t.Helper()
	hints, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- s.Watch(t.Context(), func() {
			select {
			case hints <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-hints:
	case <-time.After(time.Minute):
		t.Fatal("nothing is being watched")
	}
	return hints
}

// Load reads and loads a source, and wants so many objects and no findings.
func Load(t testing.TB, s manifests.Source, l *manifests.Loader, objects int) {
	t.Helper()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sets, found := l.Load(context.Background(), snap)
	if len(found) > 0 || len(sets[0].Items) != objects {
		t.Fatalf("%d items, findings %v", len(sets[0].Items), found)
	}
}
