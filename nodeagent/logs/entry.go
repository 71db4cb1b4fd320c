package logs

import (
	"bytes"
	"errors"
	"time"
)

// maxLine is the longest line that is one entry, in bytes; what is longer is
// split, as containerd does.
const maxLine = 16 << 10

// A Stream is one of a container's two outputs.
type Stream string

// The streams, by the names that they have in log files.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

var streams = [2]Stream{Stdout, Stderr}

const (
	tagFull    = "F"
	tagPartial = "P"
)

// entryHead is what begins an entry: "2006-01-02T15:04:05.999999999Z stdout F ".
func entryHead(at time.Time, stream Stream, tag string) []byte {
	head := at.UTC().AppendFormat(make([]byte, 0, 48), time.RFC3339Nano)
	head = append(append(append(append(head, ' '), stream...), ' '), tag...)
	return append(head, ' ')
}

// appendEntries turns raw output into entries until dst has grown past limit
// bytes, and says how much of raw it took. A line that has no end yet is left,
// but for what exceeds the longest entry; at the end of the stream it is taken
// as a partial line. Pure.
func appendEntries(dst, raw []byte, at time.Time, stream Stream, atEnd bool, limit int) (out []byte, taken int) {
	full, partial := entryHead(at, stream, tagFull), entryHead(at, stream, tagPartial)
	for len(dst) < limit {
		rest := raw[taken:]
		length := bytes.IndexByte(rest, '\n')
		switch {
		case length < 0 && len(rest) > maxLine, length > maxLine:
			dst = appendEntry(dst, partial, rest[:maxLine])
			taken += maxLine
		case length >= 0:
			dst = appendEntry(dst, full, rest[:length])
			taken += length + 1
		case atEnd && len(rest) > 0:
			return appendEntry(dst, partial, rest), len(raw)
		default:
			return dst, taken
		}
	}
	return dst, taken
}

func appendEntry(dst, head, line []byte) []byte {
	return append(append(append(dst, head...), line...), '\n')
}

// entry is one line of a log file. Its bytes are those that it was parsed from.
type entry struct {
	at      time.Time
	stream  Stream
	partial bool // the line goes on in the next entry of the stream
	text    []byte
}

var errEntry = errors.New("no entry of a CRI log")

// parseEntry reads a line of a log file, without its newline.
func parseEntry(line []byte) (entry, error) {
	stamp, rest, ok1 := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tags, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || !ok3 {
		return entry{}, errEntry
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return entry{}, errEntry
	}
	tag, _, _ := bytes.Cut(tags, []byte{':'})
	return entry{at: at, stream: Stream(stream), partial: string(tag) == tagPartial, text: text}, nil
}
