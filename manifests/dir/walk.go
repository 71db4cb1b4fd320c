package dir

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/evenkeel/evenkeel/manifests"
)

// entry is a directory, a file that may hold manifests, or an asset.
type entry struct {
	path  string // on disk
	rel   string // from the root, with slashes
	dir   bool
	link  bool
	asset bool
}

// walkLocked visits directories, manifest files and assets, each directory's in
// order of name. Links are followed, each directory only once.
func (s *Source) walkLocked(ctx context.Context, visit func(entry) error) error {
	w := walker{ctx: ctx, source: s, visit: visit, seen: map[string]bool{}, listed: map[string]bool{}}
	if err := w.descend(s.path, "", false, false); err != nil {
		return err
	}
	maps.DeleteFunc(s.listings, func(path string, _ listing) bool { return !w.listed[path] })
	return nil
}

type walker struct {
	ctx    context.Context
	source *Source
	visit  func(entry) error
	seen   map[string]bool // directories, by their real path
	listed map[string]bool
}

// descend visits what lies in a directory; assets says that a kustomization
// lies above.
func (w *walker) descend(path, rel string, link, assets bool) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if w.seen[real] {
		return nil
	}
	w.seen[real] = true
	if err := w.visit(entry{path: real, rel: rel, dir: true, link: link}); err != nil {
		return err
	}
	w.listed[path] = true
	list, err := w.source.listLocked(path, rel)
	if err != nil {
		return err
	}
	assets = assets || list.kustomized
	for i := range list.items {
		it := &list.items[i]
		hidden := it.name[0] == '.'
		if hidden && (!assets || it.kind != 0) {
			continue
		}
		if err := w.item(it, assets); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) item(it *item, assets bool) error {
	link := it.kind&fs.ModeSymlink != 0
	isDir := it.kind.IsDir()
	if link {
		info, err := os.Stat(it.path)
		switch {
		case err == nil:
			isDir = info.IsDir()
		case !it.manifest:
			return nil // a broken link to something else
		default:
			return err
		}
	}
	if isDir {
		return w.descend(it.path, it.rel, link, assets)
	}
	if it.manifest {
		return w.visit(entry{path: it.path, rel: it.rel, link: link})
	}
	if !assets || !manifests.HasAssetName(it.rel) || !w.source.holds(it.path) {
		return nil
	}
	return w.visit(entry{path: it.path, rel: it.rel, link: link, asset: true})
}

// holds reports whether a path leads to a regular file within the root: a link
// may not bring in just any file of the machine.
func (s *Source) holds(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	root, err := filepath.EvalSymlinks(s.path)
	if err != nil || !strings.HasPrefix(real, strings.TrimSuffix(root, "/")+"/") {
		return false
	}
	info, err := os.Stat(real)
	return err == nil && info.Mode().IsRegular()
}
