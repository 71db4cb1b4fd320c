package logs

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5000, time.UTC)

func TestAppendEntries(t *testing.T) {
	const head = "2026-01-02T12:00:00.000005Z stdout "
	long := strings.Repeat("x", maxLine)
	for name, test := range map[string]struct {
		raw   string
		atEnd bool
		limit int
		want  string
		taken int
	}{
		"lines":            {"a\nb\n", false, 1000, head + "F a\n" + head + "F b\n", 4},
		"empty line":       {"\n", false, 1000, head + "F \n", 1},
		"no end yet":       {"a\nb", false, 1000, head + "F a\n", 2},
		"no end ever":      {"a\nb", true, 1000, head + "F a\n" + head + "P b\n", 3},
		"longest line":     {long + "\n", false, 1000, head + "F " + long + "\n", maxLine + 1},
		"longest, no end":  {long, false, 1000, "", 0},
		"too long":         {long + "y\n", false, 1 << 20, head + "P " + long + "\n" + head + "F y\n", maxLine + 2},
		"too long, no end": {long + "y", false, 1 << 20, head + "P " + long + "\n", maxLine},
		"limit":            {"a\nb\n", false, 10, head + "F a\n", 2},
		"nothing":          {"", true, 1000, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, taken := appendEntries(nil, []byte(test.raw), noon, Stdout, test.atEnd, test.limit)
			if diff := cmp.Diff(test.want, string(got)); diff != "" || taken != test.taken {
				t.Errorf("took %d, want %d: %s", taken, test.taken, diff)
			}
		})
	}
}

// However output is cut into pieces, its entries give it back.
func TestEntriesGiveBackOutput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := strings.Join(rapid.SliceOf(rapid.OneOf(
			rapid.SampledFrom([]string{"\n", "a line\n", "no end", strings.Repeat("long", maxLine/3), " ", "\r\n"}),
			rapid.String(),
		)).Draw(t, "raw"), "")
		var entries, given []byte
		for from, to := 0, 0; from < len(raw); {
			to = rapid.IntRange(to, len(raw)).Draw(t, "written")
			atEnd := to == len(raw)
			out, taken := appendEntries(nil, []byte(raw[from:to]), noon, Stderr, atEnd, rapid.IntRange(1, 100).Draw(t, "limit"))
			from, entries = from+taken, append(entries, out...)
		}
		for line := range strings.Lines(string(entries)) {
			e, err := parseEntry([]byte(strings.TrimSuffix(line, "\n")))
			if err != nil || !e.at.Equal(noon) || e.stream != Stderr || len(e.text) > maxLine {
				t.Fatalf("entry %q: %+v, %v", line, e, err)
			}
			given = append(given, e.text...)
			if !e.partial {
				given = append(given, '\n')
			}
		}
		if string(given) != raw {
			t.Fatalf("got %q, want %q", given, raw)
		}
	})
}

func TestRecord(t *testing.T) {
	r := record{seq: 7, read: [2]int64{3, 4}, file: 5, length: 6, last: noon.UnixNano()}
	b := r.encode()
	if len(b) > recordSlot {
		t.Errorf("%d bytes", len(b))
	}
	if got, ok := decodeRecord(b); !ok || got != r {
		t.Errorf("got %+v", got)
	}
	b[9]++
	if _, ok := decodeRecord(b); ok {
		t.Error("a broken record was taken")
	}
}

// TestTimesNeverGoBack: what waited for an agent has the time at which it was
// written, but no earlier one than what is in the log already.
func TestTimesNeverGoBack(t *testing.T) {
	k := newKeeper(t)
	c := container(0)
	s := k.open(c)
	s.write(0, "one\n")
	k.await("written", func() bool { return k.read(c, all()) == "one\n" })
	k.stop()
	s.write(1, "two\n")
	earlier := time.Now().Add(-time.Hour)
	if err := os.Chtimes(s.out[1].Name(), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	k.start()
	k.await("written", func() bool { return k.read(c, all()) == "one\ntwo\n" })
	lines := strings.Split(k.read(c, Options{Tail: -1, Timestamps: true}), "\n")
	if lines[0][:len(lineStamp)-5] > lines[1][:len(lineStamp)-5] {
		t.Errorf("times go back:\n%s", strings.Join(lines, "\n"))
	}
}
