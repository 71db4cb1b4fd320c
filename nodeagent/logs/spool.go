package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// spool is a file to which a container's shim appends one of its outputs.
type spool struct {
	path  string
	watch *watch
	f     *os.File
	freed int64 // bytes at its beginning whose space was given back

	closed atomic.Bool // nobody writes to it any more
	lost   atomic.Bool // events were, so that the end may have been missed
	made   time.Time   // when it was made for a container that is about to start; zero: it was found
}

// openSpool opens the spool of a container that is about to start, or, with
// found, of one that an earlier process started.
func openSpool(path string, w *watcher, changed func(event), found bool) (*spool, error) {
	flags := os.O_RDWR
	if !found {
		flags |= os.O_CREATE
	}
	s := &spool{path: path}
	if !found {
		s.made = time.Now()
	}
	// Events come from the moment of the watch on, so that a writer that ends
	// before it is looked for is seen to end, or not found.
	if !found {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make spool: %w", err)
		}
		s.f = f
	}
	var err error
	s.watch, err = w.add(path, func(e event) {
		if e.closed {
			s.closed.Store(true)
		}
		if e.lost {
			s.lost.Store(true)
		}
		changed(e)
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if found {
		if err := s.resume(); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *spool) resume() error {
	written, err := hasWriter(s.path)
	if err != nil {
		return err
	}
	s.closed.Store(!written)
	if s.f, err = os.OpenFile(s.path, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	return nil
}

// startsWithin is how long a container may take from the making of its spools
// to its start. A young spool to which nobody writes may be of one that has yet
// to start.
const startsWithin = 10 * time.Minute

func (s *spool) isYoung(now time.Time) bool {
	return !s.made.IsZero() && now.Sub(s.made) < startsWithin
}

func (s *spool) close() error {
	if s == nil {
		return nil
	}
	if s.watch != nil {
		s.watch.remove()
	}
	if s.f == nil {
		return nil
	}
	return s.f.Close()
}

// state is how much was written, and when last.
func (s *spool) state() (size int64, at time.Time, err error) {
	info, err := s.f.Stat()
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("look at spool: %w", err)
	}
	return info.Size(), info.ModTime(), nil
}

// readAt fills b with what begins at an offset, as far as it was written.
func (s *spool) readAt(b []byte, at int64) (int, error) {
	n, err := s.f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read spool: %w", err)
	}
	return n, nil
}

// hasWriter reports whether any process has a file open for writing: only
// then the kernel refuses a read lease on it (fcntl(2), "Leases").
func hasWriter(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look for a writer: %w", err)
	}
	defer f.Close()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case err == nil:
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, err
	case errors.Is(err, unix.EAGAIN):
		return true, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return openForWriting(path)
	}
	return false, fmt.Errorf("look for a writer of %s: %w", path, err)
}

// openForWriting looks for a writer in all processes, for file systems without
// leases.
func openForWriting(path string) (bool, error) {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return false, fmt.Errorf("look for a writer: %w", err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != path {
			continue
		}
		if info, err := os.Lstat(link); err == nil && info.Mode()&0o200 != 0 {
			return true, nil
		}
	}
	return false, nil
}
