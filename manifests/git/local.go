package git

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	gogit "github.com/go-git/go-git/v5"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/watch"
)

// localLocked reads a repository where it lies. It is opened anew each time,
// which is cheap: what has been pushed or packed since is seen.
func (s *Source) localLocked(ctx context.Context) (manifests.Snapshot, error) {
	if err := s.openLocalLocked(); err != nil {
		return manifests.Snapshot{}, err
	}
	hash, err := s.resolveLocked(candidates(s.cfg.Ref), s.cfg.Ref)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	return s.commitLocked(ctx, hash)
}

func (s *Source) openLocalLocked() error {
	repo, err := gogit.PlainOpenWithOptions(s.place.path, &gogit.PlainOpenOptions{EnableDotGitCommonDir: true})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	s.repo = repo
	return nil
}

// watchLocal hints when a reference moves: HEAD, packed-refs, anything below
// refs, or a reftable.
func (s *Source) watchLocal(ctx context.Context, changed func()) error {
	return watch.Run(ctx, watch.Config{
		Dirs:     func() []string { return refDirs(s.place.path) },
		Ignore:   func(path string) bool { return strings.HasSuffix(path, ".lock") },
		Interval: s.cfg.Interval,
		Logger:   s.logger,
	}, changed)
}

// refDirs are the directories in which references change.
func refDirs(path string) []string {
	own := gitDir(path)
	if own == "" {
		return []string{path}
	}
	common := commonDir(own)
	dirs := []string{own, common, filepath.Join(common, "reftable")}
	// What cannot be listed is not watched; the interval is left.
	_ = filepath.WalkDir(filepath.Join(common, "refs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}
