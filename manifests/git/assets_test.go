package git

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

// TestAssets: what lies below a kustomization is taken along.
func TestAssets(t *testing.T) {
	w := newWork(t)
	if err := os.MkdirAll(filepath.Join(w.dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(w.dir, "app", "link.txt")); err != nil {
		t.Fatal(err)
	}
	w.commit("first", "web.yaml", "w", "README.md", "x", ".env", "x",
		"app/kustomization.yaml", "k", "app/conf/app.ini", "ini", "app/.env", "env", "app/.hidden/x.txt", "x", "app/a~", "x",
		"app/big.bin", strings.Repeat("x", manifests.MaxAssetBytes+1), "old/Kustomization", "k")
	s, err := New(Config{URL: w.dir})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"app/.env": "env", "app/conf/app.ini": "ini", "old/Kustomization": "k",
		"app/big.bin": "it has 1048577 bytes, at most 1048576 are read of a file that is no manifest",
	}
	if diff := cmp.Diff(want, manifeststest.Assets(t, snap)); diff != "" {
		t.Errorf("assets (-want +got):\n%s", diff)
	}
	if len(snap.Files) != 2 {
		t.Errorf("%d files, want 2", len(snap.Files))
	}
}
