package dir

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evenkeel/evenkeel/manifests"
)

const (
	// settle is how long a file must have been left alone. Editors and
	// shells truncate and then write.
	settle      = 40 * time.Millisecond
	settleTries = 3

	// maxFile is above what the loader reads, which refuses such a file with
	// its place; it only keeps us from reading anything whatever.
	maxFile = 64 << 20

	// maxHeld is how much fresh content a snapshot keeps in memory. What is
	// above is read again and held against its hash.
	maxHeld = 64 << 20

	// reading is how many files are read at once.
	reading = 4
)

// scanned is one look at the directory.
type scanned struct {
	files    []found
	youngest time.Duration // since the last write to any file
	leftOut  string        // the first asset above the limit
}

type found struct {
	entry
	known
	file   manifests.File // reads it again
	data   []byte         // if it has just been read
	tooBig bool           // an asset that is not read
}

// scanLocked looks at all files, and reads those that may have changed.
func (s *Source) scanLocked(ctx context.Context) (scanned, error) {
	var look scanned
	var device uint64
	assets := 0
	describe := newDescriber(ctx)
	walked := s.walkLocked(ctx, func(e entry) error {
		if e.dir {
			if e.rel == "" {
				device = deviceOf(e.path)
			}
			return nil
		}
		if e.asset {
			if assets++; assets > manifests.MaxAssets {
				look.leftOut = cmp.Or(look.leftOut, e.rel)
				return nil
			}
		}
		describe.add(e)
		return nil
	})
	var err error
	look.files, look.youngest, err = describe.wait()
	if err = cmp.Or(walked, err); err != nil {
		return scanned{}, err
	}
	if len(look.files) == 0 && s.device != 0 && device != s.device {
		return scanned{}, errors.New("it is empty and on another file system than before: is it mounted?")
	}
	slices.SortFunc(look.files, func(a, b found) int { return strings.Compare(a.rel, b.rel) })
	if err := s.readLocked(ctx, look.files); err != nil {
		return scanned{}, err
	}
	if len(look.files) > 0 {
		s.device = device
	}
	return look, nil
}

func deviceOf(path string) uint64 {
	if info, err := os.Stat(path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return uint64(st.Dev)
		}
	}
	return 0
}

// readLocked fills in the hashes, reading only what is not known.
func (s *Source) readLocked(ctx context.Context, files []found) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reading)
	s.pairLocked(files, func(f, before *found) {
		f.tooBig = f.asset && f.size > manifests.MaxAssetBytes
		switch {
		case f.tooBig:
			f.hash = fmt.Sprintf("unread:%d:%d", f.size, f.mtime)
		case before != nil && before.same(f.known):
			f.hash, f.data = before.hash, before.data
		default:
			group.Go(func() error {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				data, err := readFile(f.path, f.size)
				f.data, f.hash = data, hashOf(data)
				return err
			})
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	s.pairLocked(files, func(f, before *found) {
		if before != nil && before.hash == f.hash && before.asset == f.asset {
			f.file = before.file
		}
	})
	s.last = files
	return nil
}

// pairLocked calls visit with each file and what it was at the last look, or
// nil.
func (s *Source) pairLocked(files []found, visit func(f, before *found)) {
	last := s.last
	for i := range files {
		f := &files[i]
		for len(last) > 0 && last[0].rel < f.rel {
			last = last[1:]
		}
		if len(last) > 0 && last[0].rel == f.rel && last[0].path == f.path {
			visit(f, &last[0])
		} else {
			visit(f, nil)
		}
	}
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// snapshotLocked makes a snapshot of what was found: the one before, where
// nothing else was. It remembers it without the content.
func (s *Source) snapshotLocked(look scanned) manifests.Snapshot {
	same := s.snap.Tree != "" && look.leftOut == s.leftOut && len(s.snap.Files)+len(s.snap.Assets) == len(look.files)
	for i := range look.files {
		same = same && look.files[i].file.Read != nil
	}
	if !same {
		s.snap = s.remakeLocked(look)
		s.leftOut = look.leftOut
	}
	return s.withContentLocked()
}

func (s *Source) remakeLocked(look scanned) manifests.Snapshot {
	snap := manifests.Snapshot{Source: s.name, Location: s.path, Files: make([]manifests.File, 0, len(look.files))}
	for i := range look.files {
		f := &look.files[i]
		if f.file.Read == nil {
			f.file = f.unread()
		}
		if f.asset {
			snap.Assets = append(snap.Assets, f.file)
		} else {
			snap.Files = append(snap.Files, f.file)
		}
	}
	if look.leftOut != "" {
		snap.Findings = manifests.Diagnostics{manifests.AssetsLeftOut(s.name, look.leftOut)}
	}
	snap.Tree = look.tree()
	snap.Revision = snap.Tree
	return snap
}

// unread is a file that is read when it is asked for.
func (f *found) unread() manifests.File {
	file := manifests.File{Path: f.rel, Hash: f.hash, Read: reader(f.path, f.hash)}
	if f.tooBig {
		size := f.size
		file.Read = func() ([]byte, error) { return nil, manifests.AssetTooBig(size) }
	}
	return file
}

// tree is a hash of all paths and hashes.
func (look *scanned) tree() string {
	var text []byte
	for i := range look.files {
		f := &look.files[i]
		text = append(append(append(append(text, f.rel...), 0), f.hash...), '\n')
	}
	if look.leftOut != "" {
		text = append(append(text, look.leftOut...), "\x00left out\n"...)
	}
	return hashOf(text)
}

// withContentLocked is the snapshot with what has just been read, so that it
// need not be read again. It is let go of here.
func (s *Source) withContentLocked() manifests.Snapshot {
	snap := s.snap
	snap.Files, snap.Assets = slices.Clone(snap.Files), slices.Clone(snap.Assets)
	files, assets := snap.Files, snap.Assets
	held := 0
	for i := range s.last {
		f := &s.last[i]
		next := &files
		if f.asset {
			next = &assets
		}
		if data := f.data; data != nil && held+len(data) <= maxHeld {
			held += len(data)
			(*next)[0].Read = func() ([]byte, error) { return bytes.Clone(data), nil }
		}
		f.data = nil
		*next = (*next)[1:]
	}
	return snap
}

// reader reads a file again if it is still the same.
func reader(path, hash string) func() ([]byte, error) {
	return func() ([]byte, error) {
		again, err := os.ReadFile(path)
		if err != nil {
			return nil, manifests.Unavailable(err)
		}
		if hashOf(again) != hash {
			return nil, manifests.Unavailable(fmt.Errorf("%s has changed since it was first read", path))
		}
		return again, nil
	}
}
