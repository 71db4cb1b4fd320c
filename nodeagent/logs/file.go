package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// logFile is the log file of a container that is being written.
type logFile struct {
	path     string // of the live file: ".../0.log"
	maxFiles int
	maxSize  int64
	f        *os.File
	inode    uint64
	length   int64
}

// openLog opens the live log file and cuts off what an earlier process wrote
// without noting it.
func openLog(path string, maxSize int64, maxFiles int, noted record) (*logFile, error) {
	l := &logFile{path: path, maxSize: maxSize, maxFiles: maxFiles}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	if noted.seq == 0 { // nothing was ever noted: what is here is of an earlier life of the same name
		return l, nil
	}
	if err := l.recover(noted); err != nil {
		return nil, errors.Join(err, l.f.Close())
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.f, l.inode, l.length = f, inodeOf(info), info.Size()
	return nil
}

// recover brings the files to what was noted of them. The file that was noted
// is the live one, or has been rotated just before the end: then all that the
// live one holds is not noted.
func (l *logFile) recover(noted record) error {
	keep := int64(0)
	if noted.file == l.inode {
		keep = noted.length
	} else if err := l.cutRotated(noted); err != nil {
		return err
	}
	if l.length <= keep {
		return nil
	}
	if err := l.f.Truncate(keep); err != nil {
		return fmt.Errorf("cut off what was not noted: %w", err)
	}
	l.length = keep
	return nil
}

func (l *logFile) cutRotated(noted record) error {
	rotated, err := rotatedFiles(l.path)
	if err != nil {
		return err
	}
	for _, path := range rotated {
		info, err := os.Stat(path)
		if err == nil && inodeOf(info) == noted.file && info.Size() > noted.length {
			if err := os.Truncate(path, noted.length); err != nil {
				return fmt.Errorf("cut off what was not noted: %w", err)
			}
		}
	}
	return nil
}

// write appends whole entries, in a new file where this one would become too
// large, and reports whether it did so. After an error the file is as it was.
func (l *logFile) write(entries []byte) (rotated bool, err error) {
	if l.length > 0 && l.length+int64(len(entries)) > l.maxSize {
		if err := l.rotate(time.Now()); err != nil {
			return false, err
		}
		rotated = true
	}
	n, err := l.f.Write(entries)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, l.f.Truncate(l.length))
		}
		return rotated, fmt.Errorf("write log: %w", err)
	}
	l.length += int64(n)
	return rotated, nil
}

// rotate puts the live file aside and begins a new one, and removes the oldest
// beyond the number that is kept.
func (l *logFile) rotate(now time.Time) error {
	aside, err := freeName(l.path, now)
	if err != nil {
		return err
	}
	if err := os.Rename(l.path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	old := l.f
	if err := l.open(); err != nil {
		return err
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	rotated, err := rotatedFiles(l.path)
	if err != nil {
		return err
	}
	for len(rotated) > l.maxFiles-1 {
		if err := os.Remove(rotated[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old log: %w", err)
		}
		rotated = rotated[1:]
	}
	return nil
}

func (l *logFile) close() error { return l.f.Close() }

func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*unixStat); ok {
		return st.Ino
	}
	return 0
}

// free gives back the disk space of the first bytes of a file, whose size and
// offsets stay. Where the file system cannot, nothing happens.
func free(f *os.File, from, to int64) error {
	const block = 4096
	from, to = from/block*block, to/block*block
	if from >= to {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("free %d bytes: %w", to-from, err)
	}
	return nil
}
