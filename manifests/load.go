package manifests

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/evenkeel/evenkeel/schema"
)

// Loader turns snapshots into sets. It remembers what it has parsed by the
// content's hash, so that a file that has not changed is never parsed again,
// and a source whose tree has not changed costs nothing. It may be used from
// several goroutines.
type Loader struct {
	// Progress, if set, is told now and then how many of the files that have
	// to be parsed are. It is set before the first Load.
	Progress func(done, total int)

	mu    sync.Mutex
	files map[string]*parsedFile // by content hash
	round int

	trees []string // of the last load, source by source
	sets  []*Set
	found Diagnostics
}

// parsedFile is all that one content says, wherever it lies.
type parsedFile struct {
	objects  []*parsed
	findings []Diagnostic
	round    int // in which it was last needed
}

// NewLoader returns a loader that remembers nothing yet.
func NewLoader() *Loader {
	return &Loader{files: map[string]*parsedFile{}}
}

// batchBytes is about how much text is held at once while parsing.
const batchBytes = 16 << 20

// Load reads all sources at once, and returns a set for each in the order of
// the snapshots, and all that is to be said about them. An object that is
// declared twice, in two files or in two sources, is an error that names both
// places; the first is kept. Where Diagnostics.HasErrors, the sets hold only
// what could be read and must not be taken for all that is declared. That is
// also so when ctx ends or a file cannot be read.
func (l *Loader) Load(ctx context.Context, snaps ...Snapshot) ([]*Set, Diagnostics) {
	l.mu.Lock()
	defer l.mu.Unlock()
	trees := make([]string, len(snaps))
	for i, s := range snaps {
		trees[i] = s.Source + "\x00" + s.Tree
	}
	if l.sets != nil && slices.Equal(trees, l.trees) && !slices.ContainsFunc(snaps, func(s Snapshot) bool { return s.Tree == "" }) {
		l.restampLocked(snaps)
		return l.sets, l.found
	}
	l.round++
	failed := l.parseLocked(ctx, snaps)
	sets, found := l.assembleLocked(snaps, failed)
	l.forgetLocked()
	l.trees, l.sets, l.found = nil, nil, nil
	if len(failed) == 0 {
		l.trees, l.sets, l.found = trees, sets, found
	}
	return sets, found
}

// restampLocked gives the sets of an unchanged tree their new revision.
func (l *Loader) restampLocked(snaps []Snapshot) {
	sets := make([]*Set, len(snaps))
	for i, s := range snaps {
		set := *l.sets[i]
		set.Revision, set.Commit, set.Location = s.Revision, s.Commit, s.Location
		sets[i] = &set
	}
	l.sets = sets
}

// forgetLocked drops what neither this load nor the one before needed.
func (l *Loader) forgetLocked() {
	for hash, f := range l.files {
		if f.round < l.round-1 {
			delete(l.files, hash)
		}
	}
}

// unread is a file whose content could not be had.
type unread struct {
	source, path string
	err          error
}

// parseLocked parses every content that is not remembered.
func (l *Loader) parseLocked(ctx context.Context, snaps []Snapshot) []unread {
	var jobs []*fileJob
	queued := map[string]bool{}
	for _, s := range snaps {
		for i := range s.Files {
			f := &s.Files[i]
			if known, ok := l.files[f.Hash]; ok {
				known.round = l.round
			} else if !queued[f.Hash] {
				queued[f.Hash] = true
				jobs = append(jobs, &fileJob{source: s.Source, file: f})
			}
		}
	}
	var failed []unread
	total := len(jobs)
	for len(jobs) > 0 {
		if l.Progress != nil {
			l.Progress(total-len(jobs), total)
		}
		n := runBatch(ctx, jobs)
		for _, j := range jobs[:n] {
			if j.err != nil {
				failed = append(failed, unread{j.source, j.file.Path, j.err})
				continue
			}
			l.files[j.file.Hash] = j.result(l.round)
		}
		jobs = jobs[n:]
	}
	return failed
}

// fileJob is one content to parse.
type fileJob struct {
	source string
	file   *File
	err    error

	docs     []document
	wrong    *Diagnostic // with the file as a whole
	objects  [][]*parsed // by document
	findings [][]Diagnostic
}

// readBatch is how many files are read before they are parsed.
const readBatch = 1024

// runBatch reads some of the jobs and parses all of their documents, using
// all processors for both. It returns how many jobs it has done.
func runBatch(ctx context.Context, jobs []*fileJob) int {
	n, size := 0, 0
	for n < len(jobs) && n < readBatch && size < batchBytes {
		part := jobs[n:min(n+runtime.GOMAXPROCS(0)*16, len(jobs))]
		sizes := make([]int, len(part))
		inParallel(len(part), func(i int) { sizes[i] = part[i].read(ctx) })
		for _, s := range sizes {
			size += s
		}
		n += len(part)
	}
	type work struct {
		job *fileJob
		doc int
	}
	var todo []work
	for _, j := range jobs[:n] {
		for doc := range j.docs {
			todo = append(todo, work{j, doc})
		}
	}
	inParallel(len(todo), func(i int) {
		j, doc := todo[i].job, todo[i].doc
		if ctx.Err() == nil {
			j.objects[doc], j.findings[doc] = parseDocument(&j.docs[doc])
		}
	})
	if err := context.Cause(ctx); err != nil {
		for _, j := range jobs[:n] {
			j.err = err
		}
	}
	return n
}

// read fetches the content and cuts it into documents.
func (j *fileJob) read(ctx context.Context) int {
	if j.err = context.Cause(ctx); j.err != nil {
		return 0
	}
	data, err := j.file.Read()
	if err != nil {
		j.err = err
		return 0
	}
	if j.wrong = checkText(data); j.wrong != nil {
		return 0
	}
	j.docs = split(data)
	if len(j.docs) > maxDocuments {
		j.wrong = &Diagnostic{Code: codeTooBig, Message: fmt.Sprintf("the file has %d documents; at most %d are read", len(j.docs), maxDocuments), Suggestion: "split it"}
		j.docs = nil
	}
	j.objects, j.findings = make([][]*parsed, len(j.docs)), make([][]Diagnostic, len(j.docs))
	return len(data)
}

func (j *fileJob) result(round int) *parsedFile {
	f := &parsedFile{round: round, objects: slices.Concat(j.objects...), findings: slices.Concat(j.findings...)}
	j.docs, j.objects, j.findings = nil, nil, nil // with the text
	if j.wrong != nil {
		f.findings = append(f.findings, *j.wrong)
	}
	return f
}

// inParallel calls do(0) … do(n-1) on all processors and waits for them.
func inParallel(n int, do func(int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	const chunk = 8
	var next sync.Mutex
	at := 0
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				next.Lock()
				from := at
				at += chunk
				next.Unlock()
				if from >= n {
					return
				}
				for i := from; i < min(from+chunk, n); i++ {
					do(i)
				}
			}
		})
	}
	wg.Wait()
}

// assembleLocked puts sets together from what is parsed.
func (l *Loader) assembleLocked(snaps []Snapshot, failed []unread) ([]*Set, Diagnostics) {
	var found Diagnostics
	total := 0
	for _, s := range snaps {
		found = append(found, s.Findings...)
		total += len(s.Files)
	}
	for _, f := range failed {
		found = append(found, Diagnostic{Code: codeUnreadable, Position: Position{Source: f.source, File: f.path}, Message: "cannot read the file: " + f.err.Error()})
	}
	first := make(map[schema.Key]Position, total)
	sets := make([]*Set, len(snaps))
	for i, s := range snaps {
		set := &Set{Source: s.Source, Location: s.Location, Revision: s.Revision, Tree: s.Tree, Commit: s.Commit}
		for j := range s.Files {
			f := &s.Files[j]
			known, ok := l.files[f.Hash]
			if !ok {
				continue // unread
			}
			found = append(found, known.at(s.Source, f)...)
			found = append(found, set.add(known.objects, f, first, len(snaps) > 1)...)
		}
		slices.SortFunc(set.Items, func(a, b Item) int { return a.Key.Compare(b.Key) })
		sets[i] = set
	}
	found.sort()
	return sets, found
}

// at gives a content's findings their file.
func (f *parsedFile) at(source string, file *File) []Diagnostic {
	out := make([]Diagnostic, 0, len(f.findings))
	for _, d := range f.findings {
		d.Position.Source, d.Position.File = source, file.Path
		out = append(out, file.traced(d))
	}
	return out
}

// add takes the objects of a file into the set, except those already declared
// elsewhere.
func (s *Set) add(objects []*parsed, file *File, first map[schema.Key]Position, many bool) []Diagnostic {
	var found []Diagnostic
	for _, o := range objects {
		begin := o.places.all[0]
		at := Position{Source: s.Source, File: file.Path, Line: int(begin.line), Column: int(begin.column), Document: o.document}
		if before, ok := first[o.key]; ok {
			place, message := before.String(), o.key.String()+" is declared twice"
			if file.Trace != nil {
				place = before.File // the same line may be rendered twice
			}
			if many {
				place = before.Source + ": " + place
				message += ", " + declaring(before.Source, s.Source)
			}
			found = append(found, file.traced(Diagnostic{
				Code: codeDeclaredTwice, Position: at, Object: o.name,
				Message: message, Suggestion: "first declared at " + place,
			}))
			continue
		}
		first[o.key] = at
		s.Items = append(s.Items, Item{Key: o.key, Title: o.name, Object: o.object, Declared: o.declared, Hash: o.hash, Place: file.where(at), places: o.places, trace: file.Trace})
	}
	return found
}

// declaring names the sources of two declarations, since a position does not
// show its source.
func declaring(first, again string) string {
	if first == again {
		return "both in source " + again
	}
	return "in source " + first + " and again in source " + again
}

// Find returns the item of a key, or false.
func (s *Set) Find(key schema.Key) (Item, bool) {
	i, ok := slices.BinarySearchFunc(s.Items, key, func(it Item, k schema.Key) int { return cmp.Compare(it.Key.Compare(k), 0) })
	if !ok {
		return Item{}, false
	}
	return s.Items[i], true
}
