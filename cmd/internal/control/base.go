package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/git"
	"github.com/evenkeel/evenkeel/manifests/kustomize"
)

// Before reads what a source declared at another revision of its repository,
// from which the source has branched off: at their merge base, as the question
// is what merging the source would change. A directory is looked for in the
// repository that it lies in. The snapshot has the source's name.
func (f *Flags) Before(ctx context.Context, place string, now manifests.Snapshot, revision, dataDir string, logger *slog.Logger) (manifests.Snapshot, error) {
	cfg := git.Config{URL: place, Ref: revision, Path: f.Path, Interval: f.Interval, Dir: filepath.Join(dataDir, "git"), Logger: logger}
	head := now.Revision
	if !git.IsRepository(place) {
		root, path, ok := git.Enclosing(place)
		if !ok {
			return manifests.Snapshot{}, fmt.Errorf("--base %s: %s is in no git repository", revision, place)
		}
		cfg.URL, cfg.Path, head = root, path, ""
	}
	snap, err := before(ctx, cfg, head)
	if errors.Is(err, git.ErrNoPath) { // the directory is new
		snap, err = manifests.Snapshot{Location: now.Location, Revision: revision}, nil
	}
	if err != nil {
		return manifests.Snapshot{}, fmt.Errorf("--base: %w", err)
	}
	snap.Source = now.Source
	return snap, nil
}

func before(ctx context.Context, cfg git.Config, head string) (manifests.Snapshot, error) {
	source, err := git.New(cfg)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	snap, err := source.Snapshot(ctx)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	if head == "" {
		if head, err = headOf(ctx, cfg); err != nil {
			return manifests.Snapshot{}, err
		}
	}
	common := source.MergeBase(head, snap.Revision)
	if common == "" || common == snap.Revision {
		return kustomize.NewSource(source).Snapshot(ctx)
	}
	cfg.Ref = common
	if source, err = git.New(cfg); err != nil {
		return manifests.Snapshot{}, err
	}
	return kustomize.NewSource(source).Snapshot(ctx)
}

// headOf is the commit that a worktree was checked out from.
func headOf(ctx context.Context, cfg git.Config) (string, error) {
	cfg.Ref, cfg.Path = "", ""
	source, err := git.New(cfg)
	if err != nil {
		return "", err
	}
	snap, err := source.Snapshot(ctx)
	return snap.Revision, err
}
