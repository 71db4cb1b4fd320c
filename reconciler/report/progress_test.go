package report

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := began
	p := &Progress{w: &b, width: 50, began: began, now: func() time.Time { return now }}
	step := func(after time.Duration, done int, want string) {
		t.Helper()
		now = began.Add(after)
		b.Reset()
		p.Show("files\x1b[2J read", done, 4)
		if b.String() != want {
			t.Errorf("after %v: %q, want %q", after, b.String(), want)
		}
	}
	step(100*time.Millisecond, 1, "")
	step(400*time.Millisecond, 2, "\r\x1b[K[===============               ] 2/4  files�[2J r")
	step(410*time.Millisecond, 3, "")
	step(500*time.Millisecond, 9, "\r\x1b[K[==============================] 9/4  files�[2J r")
	b.Reset()
	p.Clear()
	p.Clear()
	if b.String() != "\r\x1b[K" {
		t.Errorf("cleared by %q", b.String())
	}
}

func TestNoProgress(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := NewProgress(f, func(string) string { return "" })
	p.began = time.Time{}
	p.Show("files read", 1, 2)
	p.Clear()
	p.While(func() { p.Show("files read", 2, 2) })
	new(Progress).Show("files read", 1, 2)
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
}
