package check

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evenkeel/evenkeel/manifests"
)

// FuzzLoad reads anything at all as a file of manifests. Whatever it is, what
// is said of it must be the same every time and have a place in the file; and
// what is declared must mean the same when it is written out and read again.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"valid", "invalid"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "testdata", dir, "*.*"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(content))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		sets, found := loadAndCheck(t, text)
		checkPlaces(t, text, found)
		if _, again := loadAndCheck(t, text); !slices.Equal(found, again) {
			t.Errorf("the second reading finds something else:\n%v\n%v", found, again)
		}
		for _, item := range sets[0].Items {
			readBack(t, item)
		}
	})
}

func loadAndCheck(t *testing.T, text string) ([]*manifests.Set, manifests.Diagnostics) {
	snap := snapshot("s", "f.yaml", text)
	sets, found := manifests.NewLoader().Load(t.Context(), snap)
	if !found.HasErrors() {
		found = manifests.Join(found, Check(sets, Cluster{}, nil))
	}
	manifests.Quote(found, snap)
	return sets, found
}

func checkPlaces(t *testing.T, text string, found manifests.Diagnostics) {
	lines := strings.Count(text, "\n") + 1
	for _, d := range found {
		if d.Position.Line > lines {
			t.Errorf("%s: the file has %d lines", d, lines)
		}
	}
	var b bytes.Buffer
	if err := found.Render(&b); err != nil {
		t.Error(err)
	}
}

// readBack loads what an item declares, as JSON.
func readBack(t *testing.T, item manifests.Item) {
	sets, found := manifests.NewLoader().Load(t.Context(), snapshot("s", "f.json", string(item.Declared)))
	if len(sets[0].Items) != 1 {
		t.Fatalf("%s cannot be read back: %v\n%s", item.Key, found, item.Declared)
	}
	if got := sets[0].Items[0]; got.Key != item.Key || got.Hash != item.Hash {
		t.Errorf("%s means something else when read back:\n%s\n%s", item.Key, item.Declared, got.Declared)
	}
}
