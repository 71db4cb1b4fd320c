// Package dir is the manifests.Source of a directory: every .yaml, .yml and
// .json file below it that is not hidden, and as assets what else lies below a
// kustomization.
//
// What is in force is always a rescan by content; events only say when to look
// again. A directory that cannot be read is an error and never an empty one.
// The package writes nothing.
package dir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/watch"
)

// Config says which directory.
type Config struct {
	// Path of the directory. Required. It need not exist yet.
	Path string

	// Interval is how often the directory is looked at without any event.
	// Default one minute.
	Interval time.Duration

	// Logger is told what cannot be watched. Default: nobody.
	Logger *slog.Logger
}

// Source is a directory of manifests.
type Source struct {
	cfg  Config
	path string // absolute
	name string

	mu     sync.Mutex
	known  map[string]known // by path relative to the root
	device uint64           // of the root when it last had files
}

var _ manifests.Source = (*Source)(nil)

// New returns the source of a directory. It reads nothing yet.
func New(cfg Config) (*Source, error) {
	if cfg.Path == "" {
		return nil, errors.New("directory source: no path")
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("directory source %s: %w", cfg.Path, err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: cfg, path: path, name: manifests.SourceName(path), known: map[string]known{}}, nil
}

// Name identifies the directory by its absolute path.
func (s *Source) Name() string { return s.name }

// Snapshot reads what has changed since the last one. A file that was being
// written a moment ago is waited for, so that half of it is not taken for all;
// that takes at most a tenth of a second or so.
func (s *Source) Snapshot(ctx context.Context) (manifests.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 0; ; try++ {
		look, err := s.scanLocked(ctx)
		if err == nil && try < settleTries && look.youngest < settle {
			if err = sleep(ctx, settle-look.youngest); err == nil {
				continue
			}
		}
		if err != nil {
			return manifests.Snapshot{}, manifests.Unavailable(fmt.Errorf("read directory %s: %w", s.path, err))
		}
		return s.snapshot(look), nil // settled, or written to without pause
	}
}

// Watch hints within some 20 ms of a change.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	return watch.Run(ctx, watch.Config{
		Dirs:     s.watched,
		Ignore:   s.ignored,
		Interval: s.cfg.Interval,
		Logger:   s.cfg.Logger,
	}, changed)
}

// ignored tells editors' own files, and what lies beside the root. Hidden names
// otherwise count: "..data" is how Kubernetes replaces a mounted config map.
func (s *Source) ignored(path string) bool {
	if !manifests.HasAssetName(path) {
		return true
	}
	beside := strings.HasPrefix(s.path, filepath.Dir(path)+"/")
	return beside && s.path != path && !strings.HasPrefix(s.path, path+"/")
}

// watched lists every directory that files come from, and the one above the
// root, in which the root itself may be replaced.
func (s *Source) watched() []string {
	dirs := []string{s.path, filepath.Dir(s.path)}
	// A directory that cannot be read is Snapshot's to complain of.
	_ = s.walk(context.Background(), func(e entry) error {
		if e.dir {
			dirs = append(dirs, e.path)
		} else if e.link {
			if real, err := filepath.EvalSymlinks(e.path); err == nil {
				dirs = append(dirs, filepath.Dir(real))
			}
		}
		return nil
	})
	if real, err := filepath.EvalSymlinks(s.path); err == nil && real != s.path {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}

// entry is a directory, a file that may hold manifests, or an asset.
type entry struct {
	path  string // on disk
	rel   string // from the root, with slashes
	dir   bool
	link  bool
	asset bool
}

// walk visits directories, manifest files and assets in order of name. Links
// are followed, each directory only once.
func (s *Source) walk(ctx context.Context, visit func(entry) error) error {
	seen := map[string]bool{}
	var into descend
	into = func(path, rel string, link, assets bool) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		if seen[real] {
			return nil
		}
		seen[real] = true
		if err := visit(entry{path: real, rel: rel, dir: true, link: link}); err != nil {
			return err
		}
		items, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		assets = assets || slices.ContainsFunc(items, func(item os.DirEntry) bool { return manifests.IsKustomization(item.Name()) })
		for _, item := range items {
			hidden := strings.HasPrefix(item.Name(), ".")
			if hidden && (!assets || !item.Type().IsRegular()) {
				continue
			}
			if err := s.item(item, filepath.Join(path, item.Name()), join(rel, item.Name()), assets, visit, into); err != nil {
				return err
			}
		}
		return nil
	}
	return into(s.path, "", false, false)
}

// descend visits what lies in a directory; assets says that a kustomization
// lies above.
type descend func(path, rel string, link, assets bool) error

func (s *Source) item(item os.DirEntry, path, rel string, assets bool, visit func(entry) error, into descend) error {
	link := item.Type()&os.ModeSymlink != 0
	isDir := item.IsDir()
	if link {
		info, err := os.Stat(path)
		switch {
		case err == nil:
			isDir = info.IsDir()
		case !manifests.HasManifestName(rel):
			return nil // a broken link to something else
		default:
			return err
		}
	}
	if isDir {
		return into(path, rel, link, assets)
	}
	if manifests.HasManifestName(rel) {
		return visit(entry{path: path, rel: rel, link: link})
	}
	if !assets || !manifests.HasAssetName(rel) || !s.holds(path) {
		return nil
	}
	return visit(entry{path: path, rel: rel, link: link, asset: true})
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

func join(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
