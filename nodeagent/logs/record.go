package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// record says how far a container's output has come into its log: what the
// log file holds up to length is what the spools held up to read. A record is
// written after the log and before anything of the spools is freed.
type record struct {
	seq    uint64
	read   [2]int64 // bytes taken from each spool
	file   uint64   // inode of the log file
	length int64    // of the log file
	last   int64    // time of the newest entry, in ns since 1970
}

const (
	recordWords = 6
	recordSize  = recordWords*8 + 4
	recordSlot  = 64 // records alternate between two slots, so that one is always whole
)

func (r record) encode() []byte {
	b := make([]byte, 0, recordSize)
	for _, word := range []uint64{r.seq, uint64(r.read[0]), uint64(r.read[1]), r.file, uint64(r.length), uint64(r.last)} {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func decodeRecord(b []byte) (record, bool) {
	if len(b) < recordSize {
		return record{}, false
	}
	body, sum := b[:recordWords*8], binary.LittleEndian.Uint32(b[recordWords*8:])
	if crc32.ChecksumIEEE(body) != sum {
		return record{}, false
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(body[i*8:]) }
	return record{
		seq: word(0), read: [2]int64{int64(word(1)), int64(word(2))},
		file: word(3), length: int64(word(4)), last: int64(word(5)),
	}, true
}

// write puts the record into the slot that does not hold the last one.
func (r *record) write(f *os.File) error {
	r.seq++
	if _, err := f.WriteAt(r.encode(), int64(r.seq%2)*recordSlot); err != nil {
		return fmt.Errorf("note how far the log is: %w", err)
	}
	return nil
}

// readRecord returns the newest whole record of a file; the zero record if
// there is none.
func readRecord(f *os.File) (record, error) {
	data := make([]byte, 2*recordSlot)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return record{}, fmt.Errorf("read how far the log is: %w", err)
	}
	var newest record
	for at := 0; at < n; at += recordSlot {
		if r, ok := decodeRecord(data[at:min(n, at+recordSlot)]); ok && r.seq > newest.seq {
			newest = r
		}
	}
	return newest, nil
}
