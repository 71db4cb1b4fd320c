package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type unixStat = syscall.Stat_t

const (
	// rotatedStamp is the kubelet's name of a rotated file, after "0.log.".
	rotatedStamp = "20060102-150405"
	// finerStamp follows where one second saw more than one rotation.
	finerStamp = rotatedStamp + ".000000"
	compressed = ".gz"
	// unfinished ends the name of a file that is being compressed.
	unfinished = ".tmp"
)

// freeName is the name for a log that is rotated now; names sort by time.
func freeName(live string, now time.Time) (string, error) {
	for _, layout := range []string{rotatedStamp, finerStamp} {
		name := live + "." + now.UTC().Format(layout)
		if !exists(name) && !exists(name+compressed) {
			return name, nil
		}
	}
	return "", fmt.Errorf("rotate log %s: two rotations in one microsecond", live)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// rotatedFiles lists the rotated files of a live one, the oldest first.
func rotatedFiles(live string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(live))
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var found []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, filepath.Base(live)+".") && !strings.HasSuffix(name, unfinished) {
			found = append(found, filepath.Join(filepath.Dir(live), name))
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		return strings.Compare(strings.TrimSuffix(a, compressed), strings.TrimSuffix(b, compressed))
	})
	return found, nil
}

// compressDelay is how old a rotated file must be to be compressed: in a flood
// of output it is removed before that, and the work is saved.
const compressDelay = 10 * time.Second

// compressOld compresses the rotated files of a live one, as the kubelet does:
// all but the newest, which somebody may be reading to its end. again reports
// whether some are too young yet.
func compressOld(ctx context.Context, live string, now time.Time) (again bool, err error) {
	rotated, err := rotatedFiles(live)
	if err != nil {
		return false, err
	}
	for _, path := range rotated[:max(0, len(rotated)-1)] {
		if strings.HasSuffix(path, compressed) {
			continue
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("compress log: %w", err)
		}
		if now.Sub(info.ModTime()) < compressDelay {
			again = true
			continue
		}
		if err := compress(ctx, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return again, fmt.Errorf("compress log %s: %w", path, err)
		}
	}
	return again, nil
}

func compress(ctx context.Context, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	tmp := path + unfinished
	to, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(to)
	_, err = io.Copy(zip, contextReader{ctx, from})
	if err = errors.Join(err, zip.Close(), to.Close()); err == nil {
		if !exists(path) { // it was removed meanwhile, being the oldest
			return os.Remove(tmp)
		}
		err = os.Rename(tmp, path+compressed)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Remove(path)
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
