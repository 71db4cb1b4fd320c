package dir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

// TestAssets: what lies below a kustomization is taken along, and nothing
// else of the machine is.
func TestAssets(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret.txt"), "of the machine")
	for path, content := range map[string]string{
		"web.yaml": "w", "README.md": "x", ".env": "x",
		"app/kustomization.yaml": "k", "app/conf/app.ini": "ini", "app/.env": "env", "app/.git/config": "x", "app/x.swp": "x", "app/a~": "x",
		"app/big.bin":       strings.Repeat("x", manifests.MaxAssetBytes+1),
		"old/Kustomization": "k",
	} {
		write(t, filepath.Join(root, path), content)
	}
	for link, target := range map[string]string{"app/outside.txt": filepath.Join(outside, "secret.txt"), "app/inside.txt": "conf/app.ini", "app/broken.txt": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := source(t, root)
	snap, files := read(t, s)
	if diff := cmp.Diff(map[string]string{"web.yaml": "w", "app/kustomization.yaml": "k"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	want := map[string]string{
		"app/.env": "env", "app/conf/app.ini": "ini", "app/inside.txt": "ini", "old/Kustomization": "k",
		"app/big.bin": "it has 1048577 bytes, at most 1048576 are read of a file that is no manifest",
	}
	if diff := cmp.Diff(want, manifeststest.Assets(t, snap)); diff != "" {
		t.Errorf("assets (-want +got):\n%s", diff)
	}
	write(t, filepath.Join(root, "app/conf/app.ini"), "other")
	if again, _ := read(t, s); again.Tree == snap.Tree {
		t.Error("an asset changed, and the tree did not")
	}
}
