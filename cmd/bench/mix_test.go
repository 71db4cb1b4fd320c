package main

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/check"
	"github.com/evenkeel/evenkeel/manifests/dir"
)

// TestMix: what is measured is valid, and of the size that it says.
func TestMix(t *testing.T) {
	files := t.TempDir()
	if err := writeMix(files, 2*teamSize); err != nil {
		t.Fatal(err)
	}
	source, err := dir.New(dir.Config{Path: files, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := source.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sets, found := manifests.NewLoader().Load(t.Context(), snapshot)
	found = manifests.Join(found, check.Check(sets, check.Cluster{}, nil))
	for _, d := range found[:min(len(found), 5)] {
		t.Errorf("%s", d)
	}
	kinds, bytes := map[string]int{}, 0
	for _, item := range sets[0].Items {
		kinds[item.Key.Resource]++
	}
	for i := range 2 * teamSize {
		bytes += len(mixOf(i, 0).text)
	}
	want := map[string]int{"configmaps": 98, "namespaces": 2, "pods": 100, "replicationcontrollers": 100, "services": 100}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if mean := bytes / (2 * teamSize); mean < 900 || mean > 1150 {
		t.Errorf("%d bytes a manifest", mean)
	}
}
