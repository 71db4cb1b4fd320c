package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/evenkeel/evenkeel/manifests"
)

const (
	// fetched is the one reference of a cache: what was fetched last.
	fetched = plumbing.ReferenceName("refs/evenkeel/fetched")

	// maxPacks is how many packs a cache may gather, one per fetch, before it
	// is cloned anew.
	maxPacks = 50
)

// remoteLocked brings the cache up to date and reads from it. A cache that
// proves broken is made again once.
func (s *Source) remoteLocked(ctx context.Context) (manifests.Snapshot, error) {
	unlock, err := s.lockCache(ctx)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	defer unlock()
	wanted, err := s.wanted(ctx)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	if s.last.Revision == wanted.hash.String() && !s.suspect && s.repo != nil {
		return s.last, nil
	}
	snap, err := s.fromCacheLocked(ctx, wanted)
	if err == nil || ctx.Err() != nil || !s.mayBeBroken(err) {
		return snap, err
	}
	s.logger.Warn("the cached repository is broken; cloning it again", "dir", s.cacheDir(), "err", err)
	if err := s.cloneLocked(ctx, wanted); err != nil {
		return manifests.Snapshot{}, err
	}
	return s.readFetchedLocked(ctx)
}

// fromCacheLocked fetches into the cache, or clones where there is none worth
// keeping.
func (s *Source) fromCacheLocked(ctx context.Context, w wanted) (manifests.Snapshot, error) {
	dir := s.cacheDir()
	repo, err := gogit.PlainOpen(dir)
	packs, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
	if err != nil || s.suspect || len(packs) > maxPacks {
		if err := s.cloneLocked(ctx, w); err != nil {
			return manifests.Snapshot{}, err
		}
	} else {
		s.repo = repo
		if err := s.fetchInto(ctx, repo, w); err != nil {
			return manifests.Snapshot{}, err
		}
	}
	return s.readFetchedLocked(ctx)
}

func (s *Source) readFetchedLocked(ctx context.Context) (manifests.Snapshot, error) {
	hash, err := s.resolveLocked([]plumbing.ReferenceName{fetched}, s.cfg.Ref)
	if err != nil {
		return manifests.Snapshot{}, err
	}
	return s.commitLocked(ctx, hash)
}

// cacheDir is the bare repository of this source.
func (s *Source) cacheDir() string { return filepath.Join(s.cfg.Dir, s.name+".git") }

// cloneLocked makes the cache beside the old one and puts it in its place, so
// that there never is half of one.
func (s *Source) cloneLocked(ctx context.Context, w wanted) error {
	dir := s.cacheDir()
	fresh, err := os.MkdirTemp(s.cfg.Dir, s.name+".new-")
	if err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	defer os.RemoveAll(fresh)
	repo, err := gogit.PlainInit(fresh, true)
	if err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	if err := s.fetchInto(ctx, repo, w); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("replace cache: %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("replace cache: %w", err)
	}
	s.repo, err = gogit.PlainOpen(dir)
	s.suspect = true // nothing read from the old one is taken over
	if err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	return nil
}

// wanted is what the remote has under the name that was asked for.
type wanted struct {
	name plumbing.ReferenceName // "" for a commit id
	hash plumbing.Hash          // zero when only a fetch can tell
}

// wanted asks the remote where its references are.
func (s *Source) wanted(ctx context.Context) (wanted, error) {
	if isCommitID(s.cfg.Ref) && s.last.Revision != "" {
		return wanted{hash: plumbing.NewHash(s.last.Revision)}, nil // a commit does not move
	}
	var refs []*plumbing.Reference
	err := s.connect(ctx, func(auth transport.AuthMethod) (err error) {
		refs, err = s.remote(nil).ListContext(ctx, &gogit.ListOptions{Auth: auth})
		return err
	})
	if err != nil {
		return wanted{}, fmt.Errorf("list references: %w", err)
	}
	byName := map[plumbing.ReferenceName]*plumbing.Reference{}
	for _, r := range refs {
		byName[r.Name()] = r
	}
	for _, name := range candidates(s.cfg.Ref) {
		r, ok := byName[name]
		if ok && r.Type() == plumbing.SymbolicReference {
			name = r.Target()
			r, ok = byName[name]
		}
		if ok {
			return wanted{name: name, hash: r.Hash()}, nil
		}
	}
	if isCommitID(s.cfg.Ref) {
		return wanted{}, nil
	}
	return wanted{}, errNoRef
}

// fetchInto gets one reference with its history, and nothing else. A commit id
// comes alone if the server allows it, and otherwise with all branches.
func (s *Source) fetchInto(ctx context.Context, repo *gogit.Repository, w wanted) error {
	spec := func(from plumbing.ReferenceName, to string) config.RefSpec {
		return config.RefSpec("+" + from.String() + ":" + to)
	}
	if w.name != "" {
		return s.fetch(ctx, repo, spec(w.name, fetched.String()))
	}
	if len(s.cfg.Ref) == 40 {
		if err := s.fetch(ctx, repo, spec(plumbing.ReferenceName(s.cfg.Ref), fetched.String())); err == nil {
			return nil
		}
	}
	return s.fetch(ctx, repo, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
}

func (s *Source) fetch(ctx context.Context, repo *gogit.Repository, specs ...config.RefSpec) error {
	err := s.connect(ctx, func(auth transport.AuthMethod) error {
		err := s.remote(repo).FetchContext(ctx, &gogit.FetchOptions{RefSpecs: specs, Auth: auth, Tags: gogit.NoTags, Force: true})
		if errors.Is(err, gogit.NoErrAlreadyUpToDate) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}

// remote is the place to fetch from; without a repository only for listing.
func (s *Source) remote(repo *gogit.Repository) *gogit.Remote {
	cfg := &config.RemoteConfig{Name: "origin", URLs: []string{s.place.url}}
	if repo == nil {
		return gogit.NewRemote(nil, cfg)
	}
	return gogit.NewRemote(repo.Storer, cfg)
}

// mayBeBroken tells errors of the cache from those of the network and of the
// repository itself.
func (s *Source) mayBeBroken(err error) bool {
	var network net.Error
	switch {
	case errors.As(err, &network), errors.Is(err, context.Canceled), errors.Is(err, errNoRef),
		errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed),
		errors.Is(err, transport.ErrRepositoryNotFound), errors.Is(err, transport.ErrEmptyRemoteRepository),
		errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOSPC), errors.Is(err, ErrNoPath):
		return false
	}
	return true
}

// lockRetry is how often a cache in use by another process is tried again.
const lockRetry = 50 * time.Millisecond

// lockCache keeps other processes away from the cache.
func (s *Source) lockCache(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	f, err := os.OpenFile(s.cacheDir()+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // which unlocks
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock cache: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock cache: %w", context.Cause(ctx)), f.Close())
		case <-retry.C:
		}
	}
}
