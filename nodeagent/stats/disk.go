package stats

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// FileSystem is what a file system has.
type FileSystem struct {
	Capacity, Available uint64 // bytes
	Free                uint64 // bytes, with those kept for root
	Inodes, InodesFree  uint64
	device              uint64
}

func fileSystem(dir string) (FileSystem, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return FileSystem{}, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return FileSystem{}, fmt.Errorf("look at %s: %w", dir, err)
	}
	size := uint64(fs.Bsize)
	return FileSystem{Capacity: fs.Blocks * size, Available: fs.Bavail * size, Free: fs.Bfree * size, Inodes: fs.Files, InodesFree: fs.Ffree, device: st.Dev}, nil
}

// tree adds up what lies below a directory on its own file system. What cannot
// be read, or goes meanwhile, takes nothing.
func tree(ctx context.Context, dir string) runtime.DiskUsage {
	const block = 512 // whatever the file system's own is (stat(2))
	var usage runtime.DiskUsage
	var device uint64
	linked := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if device == 0 {
			device = st.Dev
		}
		switch {
		case st.Dev != device:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case st.Nlink > 1 && !d.IsDir() && linked[st.Ino]:
			return nil
		case st.Nlink > 1 && !d.IsDir():
			linked[st.Ino] = true
		}
		usage.Bytes += st.Blocks * block
		usage.Inodes++
		return nil
	})
	return usage
}

// diskAge is how long a measured size of files counts: to measure one reads
// all of its directories.
const diskAge = time.Minute

// sizes keeps what was measured, by what it is of.
type sizes struct {
	mu   sync.Mutex
	last map[string]sized
}

type sized struct {
	at    time.Time
	usage runtime.DiskUsage
	known bool
}

// get returns what was measured not long ago, or measures. known is false when
// it cannot be.
func (s *sizes) get(name string, now time.Time, measure func() (runtime.DiskUsage, error)) (usage runtime.DiskUsage, known bool) {
	s.mu.Lock()
	old, ok := s.last[name]
	s.mu.Unlock()
	if ok && now.Sub(old.at) < diskAge {
		return old.usage, old.known
	}
	usage, err := measure()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[string]sized{}
	}
	s.last[name] = sized{at: now, usage: usage, known: err == nil}
	return usage, err == nil
}

// keep forgets all but the named.
func (s *sizes) keep(names map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.last {
		if !names[name] {
			delete(s.last, name)
		}
	}
}
