package git

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"

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
	if repo, err = withOpenPacks(repo); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if s.repo != nil {
		closePacks(s.repo)
	}
	s.repo = repo
	return nil
}

// openPacks is how many packs of a repository stay open. To open one anew for
// every object takes longer than to read the object.
const openPacks = 16

// withOpenPacks returns the repository with a store that keeps packs open.
func withOpenPacks(repo *gogit.Repository) (*gogit.Repository, error) {
	store, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return repo, nil
	}
	kept := filesystem.NewStorageWithOptions(store.Filesystem(), cache.NewObjectLRUDefault(), filesystem.Options{MaxOpenDescriptors: openPacks})
	return gogit.Open(kept, nil)
}

// closePacks closes what withOpenPacks keeps open.
func closePacks(repo *gogit.Repository) {
	if store, ok := repo.Storer.(io.Closer); ok {
		_ = store.Close() // it was only read
	}
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
