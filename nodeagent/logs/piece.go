package logs

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// piece is one file of a log, open.
type piece struct {
	f      *os.File
	zipped bool
	in     *bufio.Reader
}

func (p *piece) buffered() *bufio.Reader { return p.in }

// rewind makes the next read that of the first byte.
func (p *piece) rewind() error { return p.seek(0) }

func (p *piece) seek(at int64) error {
	if _, err := p.f.Seek(at, io.SeekStart); err != nil {
		return err
	}
	var in io.Reader = p.f
	if p.zipped {
		zip, err := gzip.NewReader(p.f)
		if err != nil {
			return fmt.Errorf("%s: %w", p.f.Name(), err)
		}
		in = zip
	}
	p.in = bufio.NewReaderSize(in, 32<<10)
	return nil
}

// openPieces opens all files of a container's log, the oldest first, and says
// how often it had been rotated by this process.
func openPieces(live string, t *tailer) ([]piece, int64, error) {
	rotations := int64(0)
	if t != nil {
		// While it is held, nothing is rotated.
		t.mu.Lock()
		defer t.mu.Unlock()
		rotations = t.rotations.Load()
	}
	const tries = 5 // a file may be compressed between its listing and its opening
	for try := 1; ; try++ {
		pieces, err := openAll(live)
		switch {
		case err == nil:
			return pieces, rotations, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, 0, err
		case try == tries || !exists(live):
			return nil, 0, fmt.Errorf("%w: %w", ErrNoLog, err)
		}
	}
}

func openAll(live string) (pieces []piece, err error) {
	defer func() {
		if err != nil {
			for _, p := range pieces {
				_ = p.f.Close()
			}
		}
	}()
	files, err := rotatedFiles(live)
	if err != nil {
		return nil, err
	}
	for _, path := range withoutDoubles(append(files, live)) {
		f, err := os.Open(path)
		if err != nil {
			return pieces, err
		}
		p := piece{f: f, zipped: strings.HasSuffix(path, compressed)}
		pieces = append(pieces, p)
		if err := pieces[len(pieces)-1].rewind(); err != nil {
			return pieces, err
		}
	}
	return pieces, nil
}

// withoutDoubles leaves out a compressed file whose original is still there.
func withoutDoubles(files []string) []string {
	return slices.DeleteFunc(slices.Clone(files), func(path string) bool {
		plain, zipped := strings.CutSuffix(path, compressed)
		return zipped && slices.Contains(files, plain)
	})
}

// skipToTail leaves out all but the last lines.
func (r *reader) skipToTail(lines int64) error {
	for i := len(r.pieces) - 1; i >= 0; i-- {
		p := &r.pieces[i]
		var found int64
		var err error
		if p.zipped {
			found, err = p.skipZipped(lines)
		} else {
			found, err = p.skipPlain(lines)
		}
		if err != nil {
			return err
		}
		if lines -= found; lines > 0 {
			continue
		}
		for _, older := range r.pieces[:i] {
			_ = older.f.Close()
		}
		r.pieces = r.pieces[i:]
		return nil
	}
	return nil
}

// skipPlain goes to the last lines of a file, and says how many they are.
func (p *piece) skipPlain(lines int64) (found int64, err error) {
	end, err := p.f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 32<<10)
	start := end
	for at := end; at > 0; {
		from := max(0, at-int64(len(block)))
		part := block[:at-from]
		if _, err := p.f.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != '\n' {
				continue
			}
			if found == lines {
				return found, p.seek(from + int64(i) + 1)
			}
			found++
		}
		at, start = from, from
	}
	return found, p.seek(start)
}

// skipZipped does the same by reading the file twice.
func (p *piece) skipZipped(lines int64) (found int64, err error) {
	total := int64(0)
	for err == nil {
		if err = p.skipLine(); err == nil {
			total++
		}
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	if err := p.rewind(); err != nil {
		return 0, err
	}
	for range max(0, total-lines) {
		if err := p.skipLine(); err != nil {
			return 0, err
		}
	}
	return min(total, lines), nil
}

func (p *piece) skipLine() error {
	for {
		_, err := p.in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
