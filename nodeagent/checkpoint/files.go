package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folder is a set of keys with values, each in a file of its own. A file that
// was cut off is no file: it carries the hash of its content.
type folder string

const partial = ".partial" // ending of a file that is being written

func openFolder(dir string) (folder, error) {
	return folder(dir), os.MkdirAll(dir, 0o700)
}

func (f folder) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(string(f), hex.EncodeToString(sum[:]))
}

// put writes a value in place of the one before. It is on the disk after the
// next sync.
func (f folder) put(key string, value []byte) error {
	path := f.path(key)
	if err := os.WriteFile(path+partial, pack(key, value), 0o600); err != nil {
		return errors.Join(err, removed(path+partial))
	}
	return os.Rename(path+partial, path)
}

func (f folder) remove(key string) error { return removed(f.path(key)) }

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// read returns all values by key. Files that are not whole are removed.
func (f folder) read() (map[string][]byte, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	for _, e := range entries {
		path := filepath.Join(string(f), e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		key, value, ok := unpack(data)
		if !ok || strings.HasSuffix(path, partial) {
			if err := removed(path); err != nil {
				return nil, err
			}
			continue
		}
		values[key] = value
	}
	return values, nil
}

// sync brings all that was put to the disk.
func (f folder) sync(keys []string) error {
	for _, key := range keys {
		if err := syncFile(f.path(key)); err != nil {
			return err
		}
	}
	return syncFile(string(f))
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// pack is the hash of the rest, the length of the key, the key and the value.
func pack(key string, value []byte) []byte {
	body := binary.AppendUvarint(nil, uint64(len(key)))
	body = append(append(body, key...), value...)
	sum := sha256.Sum256(body)
	return append(sum[:], body...)
}

func unpack(data []byte) (key string, value []byte, ok bool) {
	if len(data) < sha256.Size {
		return "", nil, false
	}
	body := data[sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[:sha256.Size]) {
		return "", nil, false
	}
	n, size := binary.Uvarint(body)
	if size <= 0 || uint64(len(body)-size) < n {
		return "", nil, false
	}
	return string(body[size : size+int(n)]), body[size+int(n):], true
}
