package dir

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/evenkeel/evenkeel/manifests"
)

// listing is a directory as it was when it was last listed.
type listing struct {
	raw        []byte // as the kernel gave it: equal bytes are equal items
	items      []item // sorted by name
	kustomized bool   // one of them is a kustomization
}

// item is what has a name in a directory.
type item struct {
	name string
	path string // on disk
	rel  string // from the root, with slashes
	kind fs.FileMode

	manifest bool // its name is one of a file of manifests
}

// listLocked lists a directory. One that has not changed since the last time
// costs no more than what the kernel does for it.
func (s *Source) listLocked(path, rel string) (listing, error) {
	raw, err := rawList(path, s.scratch[:0])
	s.scratch = raw
	if err != nil {
		return listing{}, err
	}
	if known, ok := s.listings[path]; ok && bytes.Equal(known.raw, raw) {
		return known, nil
	}
	items, certain := parseList(raw, path, rel)
	out := listing{items: items, kustomized: slices.ContainsFunc(items, func(it item) bool { return manifests.IsKustomization(it.name) })}
	if !certain {
		delete(s.listings, path)
		return out, completeKinds(items)
	}
	out.raw = bytes.Clone(raw)
	s.listings[path] = out
	return out, nil
}

// listRoom is about what 500 files take.
const listRoom = 32 << 10

// rawList appends what the kernel lists of a directory (getdents64(2)).
func rawList(path string, to []byte) ([]byte, error) {
	fd, err := again(func() (int, error) {
		return syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	})
	if err != nil {
		return to, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	for {
		to = slices.Grow(to, listRoom)
		n, err := again(func() (int, error) { return syscall.ReadDirent(fd, to[len(to):cap(to)]) })
		if err != nil {
			return to, &fs.PathError{Op: "readdirent", Path: path, Err: err}
		}
		if n <= 0 {
			return to, nil
		}
		to = to[:len(to)+n]
	}
}

// The fields of a struct linux_dirent64.
const (
	direntLength = 16 // of the record, 2 bytes
	direntKind   = 18
	direntName   = 19 // ends with a zero byte
)

var kinds = map[byte]fs.FileMode{
	syscall.DT_REG: 0, syscall.DT_DIR: fs.ModeDir, syscall.DT_LNK: fs.ModeSymlink,
	syscall.DT_BLK: fs.ModeDevice, syscall.DT_CHR: fs.ModeDevice | fs.ModeCharDevice, syscall.DT_FIFO: fs.ModeNamedPipe, syscall.DT_SOCK: fs.ModeSocket,
}

// parseList reads a raw list. It is not certain where the file system does not
// say of which kind its entries are.
func parseList(raw []byte, path, rel string) (items []item, certain bool) {
	certain = true
	for len(raw) > direntName {
		length := int(binary.NativeEndian.Uint16(raw[direntLength:]))
		if length <= direntName || length > len(raw) {
			break // the kernel does not do that
		}
		record := raw[:length]
		raw = raw[length:]
		text, _, _ := bytes.Cut(record[direntName:], []byte{0})
		name := string(text)
		if name == "." || name == ".." {
			continue
		}
		kind, ok := kinds[record[direntKind]]
		if !ok {
			certain, kind = false, fs.ModeIrregular
		}
		it := item{name: name, path: strings.TrimSuffix(path, "/") + "/" + name, rel: join(rel, name), kind: kind}
		it.manifest = manifests.HasManifestName(it.rel)
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, certain
}

// completeKinds asks for the kinds that a list does not say.
func completeKinds(items []item) error {
	for i := range items {
		if items[i].kind != fs.ModeIrregular {
			continue
		}
		info, err := os.Lstat(items[i].path)
		if err != nil {
			return err
		}
		items[i].kind = info.Mode().Type()
	}
	return nil
}

func join(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}
