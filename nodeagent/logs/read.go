package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Options choose what of a log is read, as Kubernetes' PodLogOptions do.
type Options struct {
	Follow     bool
	Tail       int64     // at most this many of the last lines; negative: all
	LimitBytes int64     // at most this many bytes; 0: all
	Since      time.Time // nothing older; zero: all
	Timestamps bool      // each line begins with its time
	Stream     Stream    // only this one; empty: both
}

// ErrNoLog is returned when a run of a container has no log.
var ErrNoLog = errors.New("no log")

// lineStamp is how the time before a line is written: of one length, so that
// lines stay aligned.
const lineStamp = "2006-01-02T15:04:05.000000000Z07:00"

// Read writes a container's log to stdout and stderr, which may be one, from
// the oldest file that is kept on. With Follow it goes on until the container
// has ended and all was written, across rotations, or ctx ends, which is no
// error.
func (m *Manager) Read(ctx context.Context, c Container, o Options, stdout, stderr io.Writer) error {
	t := m.find(c)
	pieces, at, err := openPieces(m.Path(c), t)
	if err != nil {
		return fmt.Errorf("read log of container %s: %w", c.ID, err)
	}
	r := &reader{t: t, live: m.Path(c), o: o, pieces: pieces, at: at, out: map[Stream]io.Writer{Stdout: stdout, Stderr: stderr}, left: o.LimitBytes}
	defer r.close()
	if o.Tail >= 0 {
		if err := r.skipToTail(o.Tail); err != nil {
			return fmt.Errorf("read log of container %s: %w", c.ID, err)
		}
	}
	err = r.run(ctx)
	switch {
	case errors.Is(err, errLimit), err == nil:
		return nil
	case ctx.Err() != nil:
		return nil
	}
	return fmt.Errorf("read log of container %s: %w", c.ID, err)
}

var errLimit = errors.New("limit of bytes reached")

// reader is one reading of a log.
type reader struct {
	t      *tailer // who writes it; nil if it is complete
	live   string
	o      Options
	pieces []piece // what is to be read, the oldest first
	at     int64   // rotations when the last piece was opened
	out    map[Stream]io.Writer
	left   int64 // of LimitBytes
	line   []byte
}

func (r *reader) close() {
	for _, p := range r.pieces {
		_ = p.f.Close()
	}
}

// run copies piece after piece, and then what is added to the last one.
func (r *reader) run(ctx context.Context) error {
	for {
		for len(r.pieces) > 1 {
			if err := r.copy(ctx); err != nil {
				return err
			}
			_ = r.pieces[0].f.Close()
			r.pieces = r.pieces[1:]
		}
		// What is true before the last read holds after it: an ended container
		// writes no more.
		ended, rotations, moved := r.t.progress()
		if err := r.copy(ctx); err != nil {
			return err
		}
		switch {
		case rotations > r.at:
			if err := r.openNext(); err != nil {
				return err
			}
			continue
		case !r.o.Follow || ended:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

// openNext opens what was begun since the last piece was opened.
func (r *reader) openNext() error {
	pieces, at, err := openPieces(r.live, r.t)
	if errors.Is(err, ErrNoLog) {
		return nil
	}
	if err != nil {
		return err
	}
	// The newest pieces are those of the rotations since; older ones were read.
	fresh := min(len(pieces), int(at-r.at))
	for _, p := range pieces[:len(pieces)-fresh] {
		_ = p.f.Close()
	}
	_ = r.pieces[0].f.Close()
	r.pieces, r.at, r.line = pieces[len(pieces)-fresh:], at, r.line[:0]
	return nil
}

// copy writes the whole entries of the first piece that were not written yet.
func (r *reader) copy(ctx context.Context) error {
	for in := r.pieces[0].buffered(); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part, err := in.ReadSlice('\n')
		r.line = append(r.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil // the rest of the line, if there is one, comes later
		case err != nil:
			return err
		}
		err = r.put(bytes.TrimSuffix(r.line, []byte{'\n'}))
		r.line = r.line[:0]
		if err != nil {
			return err
		}
	}
}

// put writes one line of the log, if it is asked for.
func (r *reader) put(line []byte) error {
	e, err := parseEntry(line)
	if err != nil {
		return nil // it is none of ours, and must not hide the others
	}
	if e.at.Before(r.o.Since) || r.o.Stream != "" && e.stream != r.o.Stream {
		return nil
	}
	var text []byte
	if r.o.Timestamps {
		text = append(e.at.AppendFormat(nil, lineStamp), ' ')
	}
	text = append(text, e.text...)
	if !e.partial {
		text = append(text, '\n')
	}
	if r.o.LimitBytes > 0 && int64(len(text)) > r.left {
		text = text[:r.left]
	}
	r.left -= int64(len(text))
	if w := r.out[e.stream]; w != nil {
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if r.o.LimitBytes > 0 && r.left == 0 {
		return errLimit
	}
	return nil
}

// progress says whether a log is complete, how often it was rotated by this
// process, and what is closed when there is more.
func (t *tailer) progress() (ended bool, rotations int64, moved <-chan struct{}) {
	if t == nil {
		return true, 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return isClosed(t.ended), t.rotations.Load(), t.moved
}

// Tail returns the end of a container's log: at most so many lines and bytes,
// without the times. It waits until all that an ended container wrote is there,
// as long as ctx lasts.
func (m *Manager) Tail(ctx context.Context, c Container, lines, bytes int64) (string, error) {
	if t := m.find(c); t != nil {
		select {
		case <-ctx.Done():
		case <-t.ended:
		}
	}
	end := &lastBytes{max: int(bytes)}
	err := m.Read(context.WithoutCancel(ctx), c, Options{Tail: lines}, end, end)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoLog
	}
	return string(end.data), err
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	max  int
	data []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.data = append(l.data, p...)
	if over := len(l.data) - l.max; over > 0 {
		l.data = append(l.data[:0], l.data[over:]...)
	}
	return len(p), nil
}
