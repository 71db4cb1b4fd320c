package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

const many = 10_000

// BenchmarkColdAndUnchanged reads 10,000 config maps in as many files.
func BenchmarkColdAndUnchanged(b *testing.B) {
	root := b.TempDir()
	past := time.Now().Add(-time.Hour)
	for i := range many {
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c%d\ndata:\n  text: |\n    some\n    lines\n", i)
		path := filepath.Join(root, fmt.Sprintf("d%d/c%d.yaml", i%50, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
		if err := os.Chtimes(path, past, past); err != nil {
			b.Fatal(err)
		}
	}
	newSource := func() *Source {
		s, err := New(Config{Path: root})
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
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			manifeststest.Load(b, s, l, many)
		}
	})
}
