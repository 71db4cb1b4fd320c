package git

import (
	"context"

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
