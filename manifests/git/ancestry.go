package git

import (
	"context"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
)

// Descends reports whether a commit is another one or descends from it. known
// is false where the repository at hand does not tell: one of them is not in
// it, or the way is too long. It never fetches.
func (s *Source) Descends(ctx context.Context, commit, from string) (descends, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repo == nil {
		return false, false
	}
	old := plumbing.NewHash(from)
	if _, err := s.repo.CommitObject(old); err != nil {
		return commit == from, commit == from
	}
	seen := map[plumbing.Hash]bool{}
	for queue := []plumbing.Hash{plumbing.NewHash(commit)}; len(queue) > 0; {
		at := queue[0]
		queue = queue[1:]
		if at == old {
			return true, true
		}
		if seen[at] {
			continue
		}
		seen[at] = true
		c, err := s.repo.CommitObject(at)
		if err != nil || len(seen) > ancestryLimit || ctx.Err() != nil {
			return false, false
		}
		queue = append(queue, c.ParentHashes...)
	}
	return false, true
}

// MergeBase returns the commit that two others have in common, the newest of
// those that there are, or "" where the repository at hand does not tell.
func (s *Source) MergeBase(a, b string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repo == nil {
		return ""
	}
	one, err := s.repo.CommitObject(plumbing.NewHash(a))
	if err != nil {
		return ""
	}
	other, err := s.repo.CommitObject(plumbing.NewHash(b))
	if err != nil {
		return ""
	}
	bases, err := one.MergeBase(other)
	if err != nil || len(bases) == 0 {
		return ""
	}
	return bases[0].Hash.String()
}

// Enclosing finds the repository on this machine that a directory lies in: its
// root, and the directory's path in it, with slashes; ok is false where there
// is none.
func Enclosing(dir string) (root, path string, ok bool) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", false
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	for at := abs; ; at = filepath.Dir(at) {
		if gitDir(at) != "" {
			rel, err := filepath.Rel(at, abs)
			if rel == "." {
				rel = ""
			}
			return at, filepath.ToSlash(rel), err == nil
		}
		if at == filepath.Dir(at) {
			return "", "", false
		}
	}
}
