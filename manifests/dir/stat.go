package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// known is what is remembered of a file, so that it need not be read again.
type known struct {
	size         int64
	mtime, ctime int64 // ns
	inode, dev   uint64
	hash         string

	// sure is set when the file was left alone for long enough before it was
	// read that a later change must show in its times.
	sure bool
}

func (k known) same(o known) bool {
	return k.sure && k.size == o.size && k.mtime == o.mtime && k.ctime == o.ctime && k.inode == o.inode && k.dev == o.dev
}

// statChunk is how many files of one directory are described at a time.
const statChunk = 256

// describer describes files while more of them are found, on all processors.
// They are looked up from their directories, which costs a fraction of looking
// up the whole path of each.
type describer struct {
	group *errgroup.Group
	ctx   context.Context

	chunks [][]found // the last is still being filled
	dir    string    // of the last

	mu       sync.Mutex
	youngest time.Duration
}

func newDescriber(ctx context.Context) *describer {
	d := &describer{youngest: time.Hour}
	d.group, d.ctx = errgroup.WithContext(ctx)
	d.group.SetLimit(runtime.GOMAXPROCS(0))
	return d
}

// add has a file described. Those of a directory should come together.
func (d *describer) add(e entry) {
	last := len(d.chunks) - 1
	if last < 0 || len(d.chunks[last]) == statChunk || !inDir(e.path, d.dir) {
		d.flush()
		d.dir, _ = cut(e.path)
		d.chunks = append(d.chunks, nil)
		last++
	}
	d.chunks[last] = append(d.chunks[last], found{entry: e})
}

// flush has the files described that were added since the last time.
func (d *describer) flush() {
	if len(d.chunks) == 0 {
		return
	}
	chunk := d.chunks[len(d.chunks)-1]
	d.group.Go(func() error {
		if err := context.Cause(d.ctx); err != nil {
			return err
		}
		age, err := statChunkOf(chunk)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.youngest = min(d.youngest, age)
		return err
	})
}

// wait returns all files, and how long ago the last of them was changed, an
// hour at most.
func (d *describer) wait() ([]found, time.Duration, error) {
	d.flush()
	err := d.group.Wait()
	return slices.Concat(d.chunks...), d.youngest, err
}

// statChunkOf describes files of one directory, and returns how long ago the
// last of them was changed, an hour at most.
func statChunkOf(files []found) (time.Duration, error) {
	dir, _ := cut(files[0].path)
	fd, err := again(func() (int, error) { return unix.Open(dir+"/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	youngest := time.Hour
	for i := range files {
		f := &files[i]
		age, err := f.stat(fd)
		if err != nil {
			return 0, err
		}
		if age >= 0 {
			youngest = min(youngest, age)
		}
	}
	return youngest, nil
}

// stat describes a file of an open directory and says how long ago it was
// changed; a time in the future, of a clock not ours, is as good as long ago.
func (f *found) stat(dir int) (time.Duration, error) {
	now := time.Now()
	var st unix.Stat_t
	_, name := cut(f.path)
	_, err := again(func() (int, error) { return 0, unix.Fstatat(dir, name, &st, 0) })
	switch {
	case err != nil:
		return 0, &fs.PathError{Op: "stat", Path: f.path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, fmt.Errorf("%s is no regular file", f.path)
	case st.Size > maxFile && !f.asset:
		return 0, fmt.Errorf("%s has %d bytes, at most %d are read", f.path, st.Size, maxFile)
	}
	f.known = known{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), inode: st.Ino, dev: uint64(st.Dev)}
	age := ageOf(time.Unix(0, max(f.mtime, f.ctime)), now, time.Now())
	f.sure = age > settle
	return age, nil
}

// ageOf is how long ago a file was changed, at least, that was looked at between
// two moments: 0 if that was between them, and negative if it is yet to come.
func ageOf(changed, from, to time.Time) time.Duration {
	if changed.After(from) && !changed.After(to) {
		return 0
	}
	return from.Sub(changed)
}

// cut splits a path into directory and name; the root's is "".
func cut(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

// inDir reports whether a path is that of a name in a directory.
func inDir(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir && strings.IndexByte(path[len(dir)+1:], '/') < 0
}

// again repeats a call that a signal interrupts.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
