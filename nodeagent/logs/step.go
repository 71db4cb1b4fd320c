package logs

import (
	"errors"
	"sync"
	"time"
)

const (
	readSize  = 128 << 10 // what is read from a spool at once
	entrySize = 256 << 10 // what is written to a log at once, and one entry more
	// freeStep is how much of a spool is kept before its space is given back.
	freeStep = 1 << 20
	// attachedStep is how far who is attached may lag behind.
	attachedStep = 8 << 20
)

// buffers are shared by all containers, so that those that are quiet hold none.
var buffers = sync.Pool{New: func() any {
	return &buffer{raw: make([]byte, readSize), entries: make([]byte, 0, entrySize+maxLine+128)}
}}

type buffer struct{ raw, entries []byte }

// step takes a piece of each spool into the log, the one that was written to
// first before the other. more is false when nothing was left to take. With
// atEnd, lines without an end are taken too.
func (t *tailer) step(atEnd bool) (more bool, err error) {
	order := [2]int{0, 1}
	var size [2]int64
	var at [2]time.Time
	pending := false
	for i, s := range t.spools {
		if s == nil {
			continue
		}
		if size[i], at[i], err = s.state(); err != nil {
			return false, err
		}
		pending = pending || size[i] > t.rec.read[i]
	}
	if !pending {
		return false, nil
	}
	if t.spools[1] != nil && at[1].Before(at[0]) {
		order = [2]int{1, 0}
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	for _, i := range order {
		if size[i] <= t.rec.read[i] {
			continue
		}
		took, err := t.take(i, size[i], at[i], atEnd, b)
		if err != nil {
			return false, err
		}
		more = more || took
	}
	t.announce()
	return more, nil
}

// take moves one piece of a spool, which has size bytes written at a time at
// the latest, and reports whether there was anything whole in it.
func (t *tailer) take(i int, size int64, at time.Time, atEnd bool, b *buffer) (bool, error) {
	s := t.spools[i]
	raw := b.raw[:min(int64(len(b.raw)), size-t.rec.read[i])]
	n, err := s.readAt(raw, t.rec.read[i])
	if err != nil || n == 0 {
		return false, err
	}
	last := atEnd && t.rec.read[i]+int64(n) == size
	stamp := max(stampOf(at, time.Now()).UnixNano(), t.rec.last)
	limit := min(entrySize, t.m.cfg.MaxSize/2)
	entries, taken := appendEntries(b.entries[:0], raw[:n], time.Unix(0, stamp), streams[i], last, int(limit))
	if taken == 0 {
		return false, nil
	}
	if err := t.write(i, entries, taken, stamp); err != nil {
		made, roomErr := t.makeRoom(i, size, err)
		if made && roomErr == nil {
			return true, nil
		}
		return false, errors.Join(err, roomErr)
	}
	t.m.cfg.Written(taken)
	return true, t.free(i)
}

// stampOf is the time of output that was last added to at a time: that, for
// what has waited for an agent, and else now, for a file's time is a coarse one.
func stampOf(at, now time.Time) time.Time {
	const coarse = 100 * time.Millisecond
	if now.Sub(at) < coarse {
		return now
	}
	return at
}

// write appends to the log and notes it.
func (t *tailer) write(i int, entries []byte, taken int, stamp int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rotated, err := t.log.write(entries)
	if rotated {
		t.rotations.Add(1)
		select {
		case t.m.old <- struct{}{}:
		default:
		}
	}
	if err != nil {
		return err
	}
	t.rec.read[i] += int64(taken)
	t.rec.last = stamp
	return t.noteLocked()
}

func (t *tailer) noteLocked() error {
	t.rec.file, t.rec.length = t.log.inode, t.log.length
	return t.rec.write(t.note)
}

// free gives back the space of what is in the log and was shown to all who are
// attached, as long as they keep up.
func (t *tailer) free(i int) error {
	s := t.spools[i]
	to := t.rec.read[i]
	t.mu.Lock()
	for a := range t.attached {
		to = min(to, max(a.at[i].Load(), t.rec.read[i]-attachedStep))
	}
	t.mu.Unlock()
	if to-s.freed < freeStep {
		return nil
	}
	if err := free(s.f, s.freed, to); err != nil {
		return err
	}
	s.freed = to
	return nil
}

// announce tells readers and those who are attached that there is more.
func (t *tailer) announce() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broadcastLocked()
}
