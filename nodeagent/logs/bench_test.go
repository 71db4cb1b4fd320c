package logs

import (
	"bytes"
	"testing"
	"time"
)

// BenchmarkConvert turns a container's output, lines of 100 bytes, into a log.
func BenchmarkConvert(b *testing.B) {
	raw := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, 99), '\n'), readSize/100)
	entries := make([]byte, 0, 2*entrySize)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		appendEntries(entries[:0], raw, time.Now(), Stdout, false, entrySize)
	}
}

// BenchmarkParse reads one line of a log.
func BenchmarkParse(b *testing.B) {
	line := append(entryHead(time.Now(), Stdout, tagFull), bytes.Repeat([]byte{'x'}, 99)...)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := parseEntry(line); err != nil {
			b.Fatal(err)
		}
	}
}
