package dir

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/manifests"
)

// TestSourceFollowsChanges changes a directory at random, and wants a source
// that has read it before to give what a new one does.
func TestSourceFollowsChanges(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	follower := source(t, root)
	for range 20 {
		for range random.IntN(6) {
			changeTree(t, random, root)
		}
		want, got := source(t, root), follower
		if diff := cmp.Diff(contentOf(t, want), contentOf(t, got)); diff != "" {
			t.Fatal(diff)
		}
	}
}

// changeTree does one thing to a tree that has few names, so that things
// collide.
func changeTree(t *testing.T, random *rand.Rand, root string) {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	dir := filepath.Join(root, pick("", "a", "a/b", "c", ".hidden"))
	path := filepath.Join(dir, pick("x.yaml", "y.json", "a.yaml", "kustomization.yaml", "values.txt", ".z.yaml"))
	var err error
	switch random.IntN(8) {
	case 0:
		err = os.RemoveAll(dir)
		if dir == root {
			err = os.Mkdir(root, 0o755)
		}
	case 1:
		_ = os.Remove(path)
	case 2:
		_ = os.Rename(path, filepath.Join(root, pick("x.yaml", "y.json")))
	case 3:
		_ = os.Symlink(filepath.Join(root, pick("c", "a", "y.json")), path)
		if _, broken := os.Stat(path); broken != nil {
			_ = os.Remove(path)
		}
	default:
		if err = os.MkdirAll(dir, 0o755); err == nil {
			_ = os.WriteFile(path, fmt.Appendf(nil, "v: %d\n", random.IntN(10)), 0o644) // it may be a link to a directory
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	removeBrokenLinks(root)
}

// removeBrokenLinks removes what a source refuses to read.
func removeBrokenLinks(root string) {
	_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type()&os.ModeSymlink != 0 {
			if _, broken := os.Stat(path); broken != nil {
				_ = os.Remove(path)
			}
		}
		return nil
	})
}

// contentOf is all that a snapshot says.
func contentOf(t *testing.T, s *Source) []string {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := []string{snap.Tree, snap.Revision}
	for _, f := range slices.Concat(snap.Files, []manifests.File{{}}, snap.Assets) {
		var data []byte
		if f.Read != nil {
			data, err = f.Read()
		}
		out = append(out, fmt.Sprintf("%s %s %q %v", f.Path, f.Hash, data, err))
	}
	return out
}
