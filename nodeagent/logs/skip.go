package logs

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// keptWhenFull is how much of a spool stays when the disk is full.
const keptWhenFull = freeStep

// makeRoom lets go of most of what waits in a spool that has size bytes, if it
// is what the disk is full of: else the log could not be written for want of
// the room that the spool takes, and the spool not be freed. What is left out
// is said in its place, in the spool itself, so that a successor says it too.
// It reports whether it did so.
func (t *tailer) makeRoom(i int, size int64, cause error) (bool, error) {
	if !errors.Is(cause, unix.ENOSPC) || size-t.rec.read[i] <= 2*keptWhenFull {
		return false, nil
	}
	s := t.spools[i]
	end, err := s.lineAfter(size - keptWhenFull)
	if err != nil {
		return false, err
	}
	text := fmt.Appendf(nil, "\n[about %d bytes of output are missing here: the disk was full]\n", end-t.rec.read[i])
	to := end - int64(len(text))
	if _, err := s.f.WriteAt(text, to); err != nil { // over what has its room
		return false, fmt.Errorf("say what is missing: %w", err)
	}
	t.mu.Lock()
	t.rec.read[i] = to
	err = t.noteLocked()
	t.mu.Unlock()
	if err != nil {
		return false, err
	}
	t.m.cfg.Logger.Warn("output left out, as the disk is full", "container", t.c.ID, "pod", t.c.Namespace+"/"+t.c.Pod, "stream", streams[i])
	return true, t.free(i)
}

// lineAfter is where the first line begins that begins after an offset, or a
// place not far from there.
func (s *spool) lineAfter(at int64) (int64, error) {
	block := make([]byte, 64<<10)
	n, err := s.readAt(block, at)
	return at + int64(bytes.IndexByte(block[:n], '\n')) + 1, err
}
