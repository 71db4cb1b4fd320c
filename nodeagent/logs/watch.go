package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// watcher hears of writes to files.
type watcher struct {
	fd int
	f  *os.File // the same, in Go's poller

	mu      sync.Mutex
	watches map[int32]*watch
}

// watch is what is to be told of one file.
type watch struct {
	w      *watcher
	id     int32
	notify func(event) // must not block
}

// event is what happened to a file: something was written, or more.
type event struct {
	closed bool // a writer has closed it
	lost   bool // the kernel did not keep what happened
}

const watched = unix.IN_MODIFY | unix.IN_CLOSE_WRITE

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch spools: %w (see /proc/sys/fs/inotify/max_user_instances)", err)
	}
	return &watcher{fd: fd, f: os.NewFile(uintptr(fd), "inotify"), watches: map[int32]*watch{}}, nil
}

func (w *watcher) add(path string, notify func(event)) (*watch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := unix.InotifyAddWatch(w.fd, path, watched)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	entry := &watch{w: w, id: int32(id), notify: notify}
	w.watches[entry.id] = entry
	return entry, nil
}

func (e *watch) remove() {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.watches[e.id] == e {
		delete(e.w.watches, e.id)
		_, _ = unix.InotifyRmWatch(e.w.fd, uint32(e.id))
	}
}

// quiet is how long events are left to gather in the kernel, which keeps one
// of many alike.
const quiet = 2 * time.Millisecond

// run delivers events until ctx ends, and closes the watcher.
func (w *watcher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Now()) })
	defer stop()
	defer w.f.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := w.f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("watch spools: %w", err)
		}
		w.deliver(buf[:n])
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(quiet):
		}
	}
}

func (w *watcher) deliver(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		name := int(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent+name:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, e := range w.watches {
				e.notify(event{lost: true})
			}
			continue
		}
		if e := w.watches[id]; e != nil {
			e.notify(event{closed: mask&unix.IN_CLOSE_WRITE != 0})
		}
	}
}
