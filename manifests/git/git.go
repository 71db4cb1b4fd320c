// Package git is the manifests.Source of a git repository: the manifests in
// the tree of one commit, read from the object store and never checked out.
//
// A repository on this machine is opened where it lies, and its references are
// watched. Any other is fetched, in intervals, into a bare repository of our
// own. The package is the wall around go-git, which is not safe for concurrent
// use of one repository: everything here takes turns. It writes nothing but
// its own cache.
package git

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/evenkeel/evenkeel/manifests"
)

// Config says which repository, and what of it.
type Config struct {
	// URL is https://, http://, ssh://, git://, scp-like ("git@host:path") or
	// a path on this machine, bare or with a work tree. Required.
	URL string

	// Ref is a branch, a tag, a full reference or a commit id. Default: the
	// repository's HEAD.
	Ref string

	// Path is the directory within the tree that holds the manifests, with
	// slashes. Default: all of the tree.
	Path string

	// Interval between fetches; a repository on this machine is also looked
	// at without any event in this interval. Default one minute.
	Interval time.Duration

	// Dir is where repositories are cached. Several sources and processes may
	// share it. Default: evenkeel/git in the user's cache directory.
	Dir string

	// Logger is told of repairs and of what cannot be watched. Default: nobody.
	Logger *slog.Logger
}

const (
	defaultInterval = time.Minute

	// fetchLimit is how long one Snapshot may take.
	fetchLimit = 10 * time.Minute
)

// Source is one reference of a git repository.
type Source struct {
	cfg    Config
	place  place
	name   string
	logger *slog.Logger

	mu      sync.Mutex
	repo    *gogit.Repository
	last    manifests.Snapshot // of the newest commit seen; Revision is empty before
	suspect bool               // the cache has lost or broken objects
}

var _ manifests.Source = (*Source)(nil)

// New returns the source of a repository. It reads nothing and connects to
// nothing yet.
func New(cfg Config) (*Source, error) {
	pl, err := parsePlace(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("git source: %w", err)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Dir == "" && !pl.local() {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("git source %s: no directory to cache it in: %w", pl.shown, err)
		}
		cfg.Dir = filepath.Join(cache, "evenkeel", "git")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Path = strings.Trim(filepath.ToSlash(filepath.Clean("/"+cfg.Path)), "/")
	return &Source{
		cfg: cfg, place: pl, logger: cfg.Logger.With("source", pl.shown),
		name: manifests.SourceName(pl.shown, cfg.Ref, cfg.Path),
	}, nil
}

// Name identifies the repository, reference and path.
func (s *Source) Name() string { return s.name }

// Snapshot finds the commit that the reference names now, fetching it if need
// be, and lists its manifests. It costs next to nothing when the reference has
// not moved.
func (s *Source) Snapshot(ctx context.Context) (manifests.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	read := s.localLocked
	if !s.place.local() {
		read = s.remoteLocked
	}
	snap, err := read(ctx)
	if err != nil {
		return manifests.Snapshot{}, manifests.Unavailable(fmt.Errorf("read git repository %s%s: %w", s.place.shown, s.refSuffix(), err))
	}
	return snap, nil
}

func (s *Source) refSuffix() string {
	if s.cfg.Ref == "" {
		return ""
	}
	return " at " + s.cfg.Ref
}

// Watch hints at once when a reference of a repository on this machine moves,
// and in intervals for any other.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	if s.place.local() {
		return s.watchLocal(ctx, changed)
	}
	changed()
	every := time.NewTicker(s.cfg.Interval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			changed()
		}
	}
}

// commitLocked makes the snapshot of a commit, reusing the last one as far as
// nothing has changed.
func (s *Source) commitLocked(ctx context.Context, hash plumbing.Hash) (manifests.Snapshot, error) {
	if s.last.Revision == hash.String() && !s.suspect {
		return s.last, nil
	}
	commit, err := s.repo.CommitObject(hash)
	if err != nil {
		return manifests.Snapshot{}, fmt.Errorf("commit %s: %w", hash, err)
	}
	snap, err := s.treeLocked(ctx, commit)
	if err != nil {
		return manifests.Snapshot{}, fmt.Errorf("commit %s: %w", hash, err)
	}
	snap.Source, snap.Location, snap.Revision = s.name, s.location(), hash.String()
	snap.Commit = describe(commit)
	if s.cfg.Path != "" {
		snap.Path, snap.Whole = s.cfg.Path, s.whole(hash)
	}
	snap.Commit.Forced = s.last.Revision != "" && s.forced(ctx, plumbing.NewHash(s.last.Revision), commit)
	s.last, s.suspect = snap, false
	return snap, nil
}

func (s *Source) location() string {
	if s.cfg.Path == "" {
		return s.place.shown
	}
	return s.place.shown + "//" + s.cfg.Path
}

func describe(c *object.Commit) *manifests.Commit {
	subject, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
	d := &manifests.Commit{
		ID: c.Hash.String(), Author: fmt.Sprintf("%s <%s>", c.Author.Name, c.Author.Email),
		Time: c.Committer.When, Subject: subject,
	}
	for _, p := range c.ParentHashes {
		d.Parents = append(d.Parents, p.String())
	}
	return d
}

// ancestryLimit is how many commits are looked at to tell a forced push.
const ancestryLimit = 5000

// forced reports whether the new commit is known not to descend from the old
// one. It answers false where that would take too long to find out.
func (s *Source) forced(ctx context.Context, old plumbing.Hash, commit *object.Commit) bool {
	seen := map[plumbing.Hash]bool{commit.Hash: true}
	queue := []*object.Commit{commit}
	for len(queue) > 0 {
		c := queue[0]
		queue = queue[1:]
		for _, p := range c.ParentHashes {
			if p == old {
				return false
			}
			if seen[p] {
				continue
			}
			seen[p] = true
			parent, err := s.repo.CommitObject(p)
			if err != nil || len(seen) > ancestryLimit || ctx.Err() != nil {
				return false
			}
			queue = append(queue, parent)
		}
	}
	return true
}

// errNoRef says that the repository has no such reference.
var errNoRef = errors.New("no such branch, tag or commit")

// resolveLocked finds the commit that a reference of the open repository
// names. Tag objects are followed.
func (s *Source) resolveLocked(names []plumbing.ReferenceName, ref string) (plumbing.Hash, error) {
	for _, name := range names {
		found, err := s.repo.Reference(name, true)
		if err == nil {
			return s.peelLocked(found.Hash())
		}
		if !errors.Is(err, plumbing.ErrReferenceNotFound) {
			return plumbing.ZeroHash, err
		}
	}
	if isCommitID(ref) || strings.ContainsAny(ref, "~^") {
		hash, err := s.repo.ResolveRevision(plumbing.Revision(ref))
		if err == nil {
			return s.peelLocked(*hash)
		}
	}
	return plumbing.ZeroHash, errNoRef
}

func (s *Source) peelLocked(hash plumbing.Hash) (plumbing.Hash, error) {
	for {
		tag, err := s.repo.TagObject(hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return hash, nil // no tag object: a commit, or whoever reads it finds out
		}
		if err != nil {
			return plumbing.ZeroHash, err
		}
		hash = tag.Target
	}
}

// candidates are the references that a person may mean by a word.
func candidates(ref string) []plumbing.ReferenceName {
	switch {
	case ref == "" || ref == "HEAD":
		return []plumbing.ReferenceName{plumbing.HEAD}
	case strings.HasPrefix(ref, "refs/"):
		return []plumbing.ReferenceName{plumbing.ReferenceName(ref)}
	}
	return []plumbing.ReferenceName{plumbing.NewBranchReferenceName(ref), plumbing.NewTagReferenceName(ref), plumbing.ReferenceName("refs/remotes/" + ref)}
}

func isCommitID(ref string) bool {
	return len(ref) >= 7 && len(ref) <= 40 && strings.Trim(strings.ToLower(ref), "0123456789abcdef") == ""
}
