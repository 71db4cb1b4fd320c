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

// known is what is remembered of a file, so that it need not be read again.
type known struct {
	size         int64
	mtime, ctime int64 // ns
	inode, dev   uint64
	hash         string

	// sure is set when the file was left alone for long enough before it was
	// read that a later change must show in its times.
	sure bool
}

func (k known) same(o known) bool {
	return k.sure && k.size == o.size && k.mtime == o.mtime && k.ctime == o.ctime && k.inode == o.inode && k.dev == o.dev
}

// scanned is one look at the directory.
type scanned struct {
	files    []found
	youngest time.Duration // since the last write to any file
	leftOut  string        // the first asset above the limit
}

type found struct {
	entry
	known
	data   []byte // if it has just been read
	tooBig bool   // an asset that is not read
}

// scanLocked looks at all files, and reads those that may have changed.
func (s *Source) scanLocked(ctx context.Context) (scanned, error) {
	look := scanned{youngest: time.Hour}
	var device uint64
	assets := 0
	err := s.walk(ctx, func(e entry) error {
		if e.dir {
			if e.rel == "" {
				device = deviceOf(e.path)
			}
			return nil
		}
		k, age, err := stat(e.path, e.asset)
		if err != nil {
			return err
		}
		f := found{entry: e, known: k, tooBig: e.asset && k.size > manifests.MaxAssetBytes}
		if e.asset {
			if assets++; assets > manifests.MaxAssets {
				look.leftOut = cmp.Or(look.leftOut, e.rel)
				return nil
			}
		}
		look.files = append(look.files, f)
		if age >= 0 {
			look.youngest = min(look.youngest, age)
		}
		return nil
	})
	if err != nil {
		return scanned{}, err
	}
	if len(look.files) == 0 && s.device != 0 && device != s.device {
		return scanned{}, errors.New("it is empty and on another file system than before: is it mounted?")
	}
	if err := s.readLocked(ctx, look.files); err != nil {
		return scanned{}, err
	}
	if len(look.files) > 0 {
		s.device = device
	}
	slices.SortFunc(look.files, func(a, b found) int { return strings.Compare(a.rel, b.rel) })
	return look, nil
}

// stat describes a file and says how long ago it was changed; a time in the
// future, of a clock not ours, is as good as long ago.
func stat(path string, asset bool) (known, time.Duration, error) {
	now := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		return known{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return known{}, 0, fmt.Errorf("%s is no regular file", path)
	}
	if info.Size() > maxFile && !asset {
		return known{}, 0, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxFile)
	}
	k := known{size: info.Size(), mtime: info.ModTime().UnixNano()}
	changed := info.ModTime()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		k.ctime, k.inode, k.dev = st.Ctim.Nano(), st.Ino, uint64(st.Dev)
		changed = later(changed, time.Unix(0, k.ctime))
	}
	age := now.Sub(changed)
	k.sure = age > settle
	return k, age, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
	for i := range files {
		f := &files[i]
		if f.tooBig {
			f.hash = fmt.Sprintf("unread:%d:%d", f.size, f.mtime)
			continue
		}
		if k, ok := s.known[f.rel]; ok && k.same(f.known) {
			f.hash = k.hash
			continue
		}
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			data, err := readFile(f.path, f.size)
			f.data, f.hash = data, hashOf(data)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.known = make(map[string]known, len(files))
	for _, f := range files {
		s.known[f.rel] = f.known
	}
	return nil
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// snapshot makes a snapshot of what was found.
func (s *Source) snapshot(look scanned) manifests.Snapshot {
	snap := manifests.Snapshot{Source: s.name, Location: s.path, Files: make([]manifests.File, 0, len(look.files))}
	tree := sha256.New()
	held := 0
	for _, f := range look.files {
		if held += len(f.data); held > maxHeld {
			f.data = nil
		}
		file := manifests.File{Path: f.rel, Hash: f.hash, Read: reader(f.path, f.hash, f.data)}
		switch {
		case f.tooBig:
			file.Read = func() ([]byte, error) { return nil, manifests.AssetTooBig(f.size) }
			fallthrough
		case f.asset:
			snap.Assets = append(snap.Assets, file)
		default:
			snap.Files = append(snap.Files, file)
		}
		fmt.Fprintf(tree, "%s\x00%s\n", f.rel, f.hash)
	}
	if look.leftOut != "" {
		snap.Findings = manifests.Diagnostics{manifests.AssetsLeftOut(s.name, look.leftOut)}
		fmt.Fprintf(tree, "%s\x00left out\n", look.leftOut)
	}
	snap.Tree = hex.EncodeToString(tree.Sum(nil))
	snap.Revision = snap.Tree
	return snap
}

// reader returns what a snapshot's file reads with: content that was kept, or
// the file again if it is still the same.
func reader(path, hash string, data []byte) func() ([]byte, error) {
	if data != nil {
		return func() ([]byte, error) { return bytes.Clone(data), nil }
	}
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
