package git

import (
	"container/heap"
	"context"
	"path"
	"strings"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/evenkeel/evenkeel/manifests"
)

// LastChanges looks for so long at most, but at so many commits in any case: a
// busy machine does not know less of what changed lately.
const (
	historyTime  = 300 * time.Millisecond
	historyLeast = 100
)

// LastChanges returns, for files of a revision, the commit that last changed
// each, as `git log -1` does. Of files that have been as they are for so long
// that it would take too long to find out it says nothing. It never fetches.
func (s *Source) LastChanges(ctx context.Context, revision string, files []string) map[string]*manifests.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repo == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	w := &historyWalk{repo: s.repo, root: s.cfg.Path, at: map[plumbing.Hash]*fileTree{}, found: map[string]*manifests.Commit{}}
	asked, start := &fileTree{}, &fileTree{}
	for _, file := range files {
		asked.add(file)
	}
	commit, err := s.repo.CommitObject(plumbing.NewHash(revision))
	if err != nil {
		return nil
	}
	w.compare(w.tree(commit), plumbing.ZeroHash, "", asked, start.add) // those that are there
	w.push(commit.Hash, start)
	for n := 0; len(w.queue) > 0 && (n < historyLeast || ctx.Err() == nil); n++ {
		w.step()
	}
	return w.found
}

// fileTree is a set of files by directories.
type fileTree struct {
	below map[string]*fileTree
	file  bool
}

func (t *fileTree) add(file string) {
	for name := range strings.SplitSeq(file, "/") {
		if t.below == nil {
			t.below = map[string]*fileTree{}
		}
		if t.below[name] == nil {
			t.below[name] = &fileTree{}
		}
		t = t.below[name]
	}
	t.file = true
}

// remove takes a file out, and the directories that are then empty.
func (t *fileTree) remove(file string) {
	name, rest, deeper := strings.Cut(file, "/")
	child := t.below[name]
	switch {
	case child == nil:
		return
	case deeper:
		child.remove(rest)
	default:
		child.file = false
	}
	if !child.file && len(child.below) == 0 {
		delete(t.below, name)
	}
}

func (t *fileTree) each(prefix string, visit func(file string)) {
	for name, child := range t.below {
		if child.file {
			visit(path.Join(prefix, name))
		}
		child.each(path.Join(prefix, name), visit)
	}
}

// historyWalk goes from a commit to its ancestors, the newest first. Each file
// is at one commit at a time: it goes on to a parent in which it is the same.
type historyWalk struct {
	repo  *gogit.Repository
	root  string
	queue commitQueue
	at    map[plumbing.Hash]*fileTree
	found map[string]*manifests.Commit
}

func (w *historyWalk) push(hash plumbing.Hash, files *fileTree) {
	if there := w.at[hash]; there != nil {
		files.each("", there.add)
		return
	}
	commit, err := w.repo.CommitObject(hash)
	if err != nil {
		return // a shallow repository ends here
	}
	w.at[hash] = files
	heap.Push(&w.queue, commit)
}

func (w *historyWalk) step() {
	commit := heap.Pop(&w.queue).(*object.Commit)
	files := w.at[commit.Hash]
	delete(w.at, commit.Hash)
	here := w.tree(commit)
	for _, hash := range commit.ParentHashes {
		parent, err := w.repo.CommitObject(hash)
		if err != nil {
			return
		}
		changed := &fileTree{}
		w.compare(here, w.tree(parent), "", files, changed.add)
		if len(changed.below) == 0 {
			w.push(hash, files)
			return
		}
		if len(commit.ParentHashes) > 1 {
			same := &fileTree{}
			files.each("", same.add)
			changed.each("", same.remove)
			if len(same.below) > 0 {
				w.push(hash, same)
			}
			files = changed
			continue
		}
		changed.each("", func(file string) {
			w.found[file] = describe(commit)
			files.remove(file)
		})
		if len(files.below) > 0 {
			w.push(hash, files)
		}
		return
	}
	files.each("", func(file string) { w.found[file] = describe(commit) })
}

// tree is the hash of a commit's tree at the source's path, zero if there is
// none.
func (w *historyWalk) tree(commit *object.Commit) plumbing.Hash {
	if w.root == "" {
		return commit.TreeHash
	}
	tree, err := commit.Tree()
	if err != nil {
		return plumbing.ZeroHash
	}
	entry, err := tree.FindEntry(w.root)
	if err != nil {
		return plumbing.ZeroHash
	}
	return entry.Hash
}

// compare reports the files that are not the same in two trees.
func (w *historyWalk) compare(a, b plumbing.Hash, prefix string, files *fileTree, differs func(file string)) {
	if a == b {
		return
	}
	inA, inB := w.entries(a), w.entries(b)
	for name, child := range files.below {
		full := path.Join(prefix, name)
		if child.file && inA[name] != inB[name] {
			differs(full)
		}
		if len(child.below) > 0 {
			w.compare(inA[name], inB[name], full, child, differs)
		}
	}
}

func (w *historyWalk) entries(hash plumbing.Hash) map[string]plumbing.Hash {
	tree, err := object.GetTree(w.repo.Storer, hash)
	if err != nil {
		return nil
	}
	out := make(map[string]plumbing.Hash, len(tree.Entries))
	for _, e := range tree.Entries {
		out[e.Name] = e.Hash
	}
	return out
}

// commitQueue has the newest commit first.
type commitQueue []*object.Commit

func (q commitQueue) Len() int           { return len(q) }
func (q commitQueue) Less(i, j int) bool { return q[i].Committer.When.After(q[j].Committer.When) }
func (q commitQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *commitQueue) Push(x any)        { *q = append(*q, x.(*object.Commit)) }
func (q *commitQueue) Pop() any {
	last := len(*q) - 1
	out := (*q)[last]
	*q = (*q)[:last]
	return out
}
