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
	"path/filepath"
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

	mu       sync.Mutex
	listings map[string]listing // by path
	scratch  []byte             // for the next listing
	last     []found            // sorted, without content
	snap     manifests.Snapshot // of last
	leftOut  string             // of last
	device   uint64             // of the root when it last had files
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
	return &Source{cfg: cfg, path: path, name: manifests.SourceName(path), listings: map[string]listing{}}, nil
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
		return s.snapshotLocked(look), nil // settled, or written to without pause
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
	s.mu.Lock()
	defer s.mu.Unlock()
	dirs := []string{s.path, filepath.Dir(s.path)}
	// A directory that cannot be read is Snapshot's to complain of.
	_ = s.walkLocked(context.Background(), func(e entry) error {
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
