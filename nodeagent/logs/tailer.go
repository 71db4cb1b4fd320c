package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// tailer turns the spools of one container into its log.
type tailer struct {
	m      *Manager
	c      Container
	dir    string
	live   string    // path of the log
	spools [2]*spool // the second is nil with a TTY
	note   *os.File  // of records
	awake  chan struct{}
	ended  chan struct{}  // closed when all is in the log, or dropped
	left   chan struct{}  // closed when run has returned
	hurry  chan struct{}  // closed when nobody can wait for another try
	asked  chan struct{}  // to look whether anybody writes to the spools
	kept   chan [2]string // pipes to read where nobody writes to the spools
	pipes  [2]string      // likewise, from the start
	pumps  sync.WaitGroup
	drop   atomic.Bool // the pod is being removed: nothing more is written

	rotations counter

	mu       sync.Mutex
	rec      record
	log      *logFile
	moved    chan struct{} // closed and replaced whenever something was written
	attached map[*attachment]struct{}
}

func (m *Manager) openTailer(c Container, dir string, found bool) (t *tailer, err error) {
	t = &tailer{
		m: m, c: c, dir: dir, live: m.Path(c), awake: make(chan struct{}, 1), ended: make(chan struct{}),
		left: make(chan struct{}), hurry: make(chan struct{}), asked: make(chan struct{}), kept: make(chan [2]string, 1),
		moved: make(chan struct{}), attached: map[*attachment]struct{}{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.closeFiles())
		}
	}()
	t.note, err = os.OpenFile(filepath.Join(dir, recordFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return t, fmt.Errorf("open record: %w", err)
	}
	if t.rec, err = readRecord(t.note); err != nil {
		return t, err
	}
	t.log, err = openLog(t.live, m.cfg.MaxSize, m.cfg.MaxFiles, t.rec)
	if err != nil {
		return t, err
	}
	if err := t.noteLocked(); err != nil {
		return t, err
	}
	for i, s := range streams {
		if i == 1 && c.TTY {
			break
		}
		t.spools[i], err = openSpool(filepath.Join(dir, string(s)), m.watcher, t.changed, found)
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

func (t *tailer) paths() Spools {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Spools{Stdout: t.spools[0].path}
	if t.spools[1] != nil {
		p.Stderr = t.spools[1].path
	}
	return p
}

// changed is called at every event of a spool.
func (t *tailer) changed(e event) {
	if e.closed {
		t.m.tellLeft(t.c.UID)
	}
	t.wake()
}

func (t *tailer) wake() {
	select {
	case t.awake <- struct{}{}:
	default:
	}
}

const (
	// gather is how long output may gather before it is read again.
	gather = 10 * time.Millisecond
	// retryFirst and retryLast bound the wait after an error, such as a full disk.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
)

// run writes the log until the container's outputs are closed and all is
// written, which removes the spools, or until ctx ends.
func (t *tailer) run(ctx context.Context) {
	defer close(t.left)
	defer func() {
		if err := t.closeFiles(); err != nil {
			t.m.cfg.Logger.Warn("log not closed", "container", t.c.ID, "error", err)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer t.pumps.Wait()
	defer cancel()
	t.startPumps(ctx, t.pipes)
	pause := gather
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.asked:
			t.lookForWriters(func(*spool) bool { return true })
		case pipes := <-t.kept:
			t.startPumps(ctx, pipes)
		case <-t.awake:
			t.makeUpForLost()
		}
		done, err := t.turn(ctx)
		if err != nil && ctx.Err() == nil {
			t.m.cfg.Logger.Warn("log not written", "container", t.c.ID, "pod", t.c.Namespace+"/"+t.c.Pod, "error", err)
			done = isClosed(t.hurry)
		}
		if done {
			t.end()
			return
		}
		pause = nextPause(pause, err)
		if !t.rest(ctx, pause) {
			return
		}
		if err != nil {
			t.wake()
		}
	}
}

func nextPause(last time.Duration, err error) time.Duration {
	if err == nil {
		return gather
	}
	return min(retryLast, max(retryFirst, 2*last))
}

// rest waits, and reports false when ctx has ended.
func (t *tailer) rest(ctx context.Context, pause time.Duration) bool {
	over := time.After(pause)
	for {
		select {
		case <-ctx.Done():
			return false
		case pipes := <-t.kept: // whose container waits
			t.startPumps(ctx, pipes)
			continue
		case <-t.hurry:
		case <-over:
		}
		return true
	}
}

// makeUpForLost looks whether an end was missed, where events were lost. Of a
// container that may be about to start it looks again later.
func (t *tailer) makeUpForLost() {
	t.lookForWriters(func(s *spool) bool { return s.lost.Load() && !s.closed.Load() })
	for _, s := range t.spools {
		if s == nil || !s.lost.Load() || !s.closed.Load() {
			continue
		}
		if t.mayStart() {
			s.closed.Store(false)
			time.AfterFunc(lookAgain, t.wake)
			continue
		}
		s.lost.Store(false)
	}
}

// mayStart reports whether the container may have yet to start.
func (t *tailer) mayStart() bool {
	for i, s := range t.spools {
		if s == nil {
			continue
		}
		if size, _, err := s.state(); err != nil || size > 0 || t.rec.read[i] > 0 || !s.isYoung(time.Now()) {
			return false
		}
	}
	return true
}

// lookAgain is how long a spool that nobody has written to yet is left alone.
const lookAgain = time.Minute

// lookForWriters opens some spools anew, which finds out whether anybody has
// them open for writing besides ourselves.
func (t *tailer) lookForWriters(wanted func(*spool) bool) {
	for i, s := range t.spools {
		if s == nil || !wanted(s) {
			continue
		}
		freed, made := s.freed, s.made
		err := s.close()
		fresh, openErr := openSpool(s.path, t.m.watcher, t.changed, true)
		if err = errors.Join(err, openErr); err != nil {
			t.m.cfg.Logger.Warn("spool not looked at", "container", t.c.ID, "error", err)
		}
		if openErr != nil {
			s.closed.Store(true)
			continue
		}
		fresh.freed, fresh.made = freed, made
		if s.lost.Load() && fresh.closed.Load() {
			fresh.lost.Store(true)
		}
		t.mu.Lock()
		t.spools[i] = fresh
		t.mu.Unlock()
	}
}

// hasten makes the tailer take what there is, or leave it, and end.
func (t *tailer) hasten(drop bool) {
	t.drop.Store(drop)
	t.mu.Lock()
	for _, s := range t.spools {
		if s != nil {
			s.closed.Store(true)
		}
	}
	if !isClosed(t.hurry) {
		close(t.hurry)
	}
	t.mu.Unlock()
	t.wake()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isClosed reports whether nobody writes to the spools any more.
func (t *tailer) isClosed() bool {
	for _, s := range t.spools {
		if s != nil && !s.closed.Load() {
			return false
		}
	}
	return true
}

// turn writes what there is, and reports whether nothing can come any more.
func (t *tailer) turn(ctx context.Context) (done bool, err error) {
	for ctx.Err() == nil {
		if t.drop.Load() {
			return true, nil
		}
		closed := t.isClosed()
		more, err := t.step(closed)
		if err != nil {
			return false, err
		}
		if !more {
			return closed, nil
		}
	}
	return false, nil
}

// end leaves the log and removes the spools.
func (t *tailer) end() {
	if err := os.RemoveAll(t.dir); err != nil {
		t.m.cfg.Logger.Warn("spools not removed", "container", t.c.ID, "error", err)
	}
	_ = os.Remove(filepath.Dir(t.dir)) // if no other run has spools there
	t.m.forget(t)
	t.m.tellLeft(t.c.UID)
	close(t.ended)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broadcastLocked()
}

func (t *tailer) broadcastLocked() {
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *tailer) closeFiles() error {
	var errs []error
	for _, s := range t.spools {
		errs = append(errs, s.close())
	}
	if t.note != nil {
		errs = append(errs, t.note.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.log != nil {
		errs = append(errs, t.log.close())
	}
	err := errors.Join(errs...)
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
