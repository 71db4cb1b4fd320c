package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/evenkeel/evenkeel/manifests"
)

// maxBlob is above what the loader reads, which refuses such a file with its
// place; it only keeps us from reading anything whatever.
const maxBlob = 64 << 20

// treeLocked lists the manifests of a commit's tree.
func (s *Source) treeLocked(ctx context.Context, commit *object.Commit) (manifests.Snapshot, error) {
	tree, err := commit.Tree()
	if err != nil {
		return manifests.Snapshot{}, fmt.Errorf("tree %s: %w", commit.TreeHash, err)
	}
	if s.cfg.Path != "" {
		if tree, err = tree.Tree(s.cfg.Path); errors.Is(err, object.ErrDirectoryNotFound) {
			return manifests.Snapshot{}, fmt.Errorf("path %s: %w", s.cfg.Path, ErrNoPath)
		} else if err != nil {
			return manifests.Snapshot{}, fmt.Errorf("path %s: %w", s.cfg.Path, err)
		}
	}
	if s.last.Tree == tree.Hash.String() && !s.suspect {
		return s.last, nil // the caller stamps it with the commit
	}
	return s.listLocked(ctx, tree)
}

// whole lists all of a commit, whatever the source's path is.
func (s *Source) whole(hash plumbing.Hash) func(context.Context) (manifests.Snapshot, error) {
	return func(ctx context.Context) (manifests.Snapshot, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		commit, err := s.repo.CommitObject(hash)
		if err != nil {
			return manifests.Snapshot{}, manifests.Unavailable(fmt.Errorf("commit %s: %w", hash, err))
		}
		tree, err := commit.Tree()
		if err != nil {
			return manifests.Snapshot{}, manifests.Unavailable(fmt.Errorf("tree %s: %w", commit.TreeHash, err))
		}
		snap, err := s.listLocked(ctx, tree)
		if err != nil {
			return manifests.Snapshot{}, manifests.Unavailable(fmt.Errorf("commit %s: %w", hash, err))
		}
		snap.Source = s.name
		return snap, nil
	}
}

func (s *Source) listLocked(ctx context.Context, tree *object.Tree) (manifests.Snapshot, error) {
	l := &lister{source: s, snap: manifests.Snapshot{Tree: tree.Hash.String()}}
	if err := l.list(ctx, tree, "", false); err != nil {
		return manifests.Snapshot{}, err
	}
	for _, files := range [][]manifests.File{l.snap.Files, l.snap.Assets} {
		slices.SortFunc(files, func(a, b manifests.File) int { return strings.Compare(a.Path, b.Path) })
	}
	return l.snap, nil
}

// ErrNoPath says that a commit does not have the path that was asked for.
var ErrNoPath = errors.New("no such directory in the commit")

type lister struct {
	source *Source
	snap   manifests.Snapshot

	leftOut bool // some assets are
}

// list lists what lies below a directory; assets says that a kustomization
// lies above.
func (l *lister) list(ctx context.Context, tree *object.Tree, below string, assets bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	assets = assets || slices.ContainsFunc(tree.Entries, func(e object.TreeEntry) bool { return manifests.IsKustomization(e.Name) })
	for _, e := range tree.Entries {
		at := path.Join(below, e.Name)
		switch {
		case assets && e.Mode.IsFile() && e.Mode != filemode.Symlink && !manifests.HasManifestName(at):
			l.asset(at, e.Hash)
		case strings.HasPrefix(e.Name, "."):
		case e.Mode == filemode.Dir:
			sub, err := l.source.repo.TreeObject(e.Hash)
			if err != nil {
				return fmt.Errorf("tree %s: %w", at, err)
			}
			if err := l.list(ctx, sub, at, assets); err != nil {
				return err
			}
		case e.Mode == filemode.Submodule:
			l.skipped(at, manifests.CodeSubmoduleSkipped, "a submodule is not read", "name its repository as a source of its own")
		case !manifests.HasManifestName(at):
		case e.Mode == filemode.Symlink:
			l.skipped(at, manifests.CodeLinkSkipped, "a symbolic link is not followed", "commit the file itself")
		default:
			l.snap.Files = append(l.snap.Files, manifests.File{Path: at, Hash: "git:" + e.Hash.String(), Read: l.source.reader(e.Hash)})
		}
	}
	return nil
}

// asset takes a file that is no manifest along.
func (l *lister) asset(at string, hash plumbing.Hash) {
	if !manifests.HasAssetName(at) {
		return
	}
	if len(l.snap.Assets) == manifests.MaxAssets {
		if !l.leftOut {
			l.snap.Findings = append(l.snap.Findings, manifests.AssetsLeftOut(l.source.name, at))
		}
		l.leftOut = true
		return
	}
	l.snap.Assets = append(l.snap.Assets, manifests.File{Path: at, Hash: "git:" + hash.String(), Read: l.source.assetReader(hash)})
}

// assetReader reads a blob that is not too big.
func (s *Source) assetReader(hash plumbing.Hash) func() ([]byte, error) {
	read := s.reader(hash)
	return func() ([]byte, error) {
		s.mu.Lock()
		blob, err := s.repo.BlobObject(hash)
		s.mu.Unlock()
		if err == nil && blob.Size > manifests.MaxAssetBytes {
			return nil, manifests.AssetTooBig(blob.Size)
		}
		return read() // which also says what is wrong
	}
}

func (l *lister) skipped(at, code, message, suggestion string) {
	l.snap.Findings = append(l.snap.Findings, manifests.Diagnostic{
		Severity: manifests.Warning, Code: code, Message: message, Suggestion: suggestion,
		Position: manifests.Position{Source: l.source.name, File: at},
	})
}

// reader reads a blob, in turn with everything else that uses the repository.
func (s *Source) reader(hash plumbing.Hash) func() ([]byte, error) {
	return func() ([]byte, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		data, err := s.blobLocked(hash)
		if err == nil {
			return data, nil
		}
		if s.place.local() {
			// The repository may have been packed anew since it was opened.
			if s.openLocalLocked() == nil {
				data, err = s.blobLocked(hash)
			}
		} else {
			s.suspect = true // the next snapshot fetches everything again
		}
		if err != nil {
			return nil, manifests.Unavailable(fmt.Errorf("read blob %s of %s: %w", hash, s.place.shown, err))
		}
		return data, nil
	}
}

func (s *Source) blobLocked(hash plumbing.Hash) ([]byte, error) {
	blob, err := s.repo.BlobObject(hash)
	if err != nil {
		return nil, err
	}
	if blob.Size > maxBlob {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", blob.Size, maxBlob)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	data := make([]byte, blob.Size)
	_, err = io.ReadFull(r, data)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if plumbing.ComputeHash(plumbing.BlobObject, data) != hash {
		return nil, errors.New("the content is not what its id says")
	}
	return data, nil
}
