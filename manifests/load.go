package manifests

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Loader turns snapshots into sets. It remembers what it has parsed by the
// content's hash, so that a file that has not changed is never parsed again,
// and a source whose tree has not changed costs nothing. It may be used from
// several goroutines.
type Loader struct {
	// Progress, if set, is told now and then how many of the files that have
	// to be parsed are, from several goroutines at once. It is set before the
	// first Load.
	Progress func(done, total int)

	mu    sync.Mutex
	files map[string]*parsedFile // by content hash
	round int

	trees []string // of the last load, source by source
	sets  []*Set
	found Diagnostics
	held  []holding // of the last load, if its sets can be brought up to date
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

// batchBytes is about how much text of files of many documents is held at once.
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
	now := l.matchLocked(snaps)
	failed := l.parseLocked(ctx, snaps, now)
	sets, found := l.assembleLocked(snaps, now, failed)
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
func (l *Loader) parseLocked(ctx context.Context, snaps []Snapshot, now []holding) []unread {
	var jobs []*fileJob
	queued := map[string]bool{}
	for n, s := range snaps {
		for i := range s.Files {
			f, held := &s.Files[i], &now[n].files[i]
			if held.parsed == nil {
				held.parsed = l.files[f.Hash]
			}
			if held.parsed != nil {
				held.parsed.round = l.round
			} else if !queued[f.Hash] {
				queued[f.Hash] = true
				jobs = append(jobs, &fileJob{source: s.Source, file: f})
			}
		}
	}
	var failed []unread
	p := progress{tell: l.Progress, total: len(jobs)}
	for len(jobs) > 0 {
		n := runBatch(ctx, jobs, &p)
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
	left     atomic.Int64 // documents to parse, while they are shared out
	wrong    *Diagnostic  // with the file as a whole
	objects  [][]*parsed  // by document
	findings [][]Diagnostic
}

// readBatch is how many files are read before their results are taken.
const readBatch = 1024

// fewDocuments is how many documents of a file are parsed by who reads it.
// Those of other files are shared out.
const fewDocuments = 8

// runBatch reads some of the jobs and parses all of their documents, using
// all processors for both at once: where files are read one after another,
// nobody waits for that. It returns how many jobs it has done.
func runBatch(ctx context.Context, jobs []*fileJob, p *progress) int {
	jobs = jobs[:min(len(jobs), readBatch)]
	var next, held atomic.Int64
	var wg sync.WaitGroup
	for range min(len(jobs), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for held.Load() < batchBytes {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) {
					return
				}
				size := jobs[i].read(ctx)
				if len(jobs[i].docs) <= fewDocuments {
					jobs[i].parse(ctx)
					p.add(1)
				} else {
					held.Add(int64(size))
				}
			}
		})
	}
	wg.Wait()
	jobs = jobs[:min(int(next.Load()), len(jobs))]
	parseHeld(ctx, jobs, p)
	if err := context.Cause(ctx); err != nil {
		for _, j := range jobs {
			j.err = err
		}
	}
	return len(jobs)
}

// parseHeld parses the documents of the files that were only read.
func parseHeld(ctx context.Context, jobs []*fileJob, p *progress) {
	type work struct {
		job *fileJob
		doc int
	}
	var todo []work
	for _, j := range jobs {
		j.left.Store(int64(len(j.docs)))
		for doc := range j.docs {
			todo = append(todo, work{j, doc})
		}
	}
	inParallel(len(todo), func(i int) {
		todo[i].job.parseOne(ctx, todo[i].doc)
		if todo[i].job.left.Add(-1) == 0 {
			p.add(1)
		}
	})
}

// progress counts the files that are parsed.
type progress struct {
	tell  func(done, total int) // may be nil
	total int
	done  atomic.Int64
}

// tellEvery is after how many files progress is told.
const tellEvery = 16

func (p *progress) add(files int64) {
	done := p.done.Add(files)
	if p.tell != nil && (done%tellEvery == 0 || done == int64(p.total)) {
		p.tell(int(done), p.total)
	}
}

// parse parses all documents, and lets go of the text.
func (j *fileJob) parse(ctx context.Context) {
	for doc := range j.docs {
		j.parseOne(ctx, doc)
	}
	j.docs = nil
}

func (j *fileJob) parseOne(ctx context.Context, doc int) {
	if ctx.Err() == nil {
		j.objects[doc], j.findings[doc] = parseDocument(&j.docs[doc])
	}
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
	const chunk = 8
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for {
				to := int(next.Add(chunk))
				if to-chunk >= n {
					return
				}
				for i := to - chunk; i < min(to, n); i++ {
					do(i)
				}
			}
		})
	}
	wg.Wait()
}
