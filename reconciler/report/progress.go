package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

const (
	// patience is how long work may take before a bar is shown.
	patience = 300 * time.Millisecond

	// redraw is how often the bar moves.
	redraw = 80 * time.Millisecond

	barWidth = 30
)

// Progress shows a person how far long work is. Its zero value shows nothing,
// and so does one that is not for a terminal. Its methods may be called at
// once from several goroutines.
type Progress struct {
	w     io.Writer // nil shows nothing
	width int
	now   func() time.Time

	mu    sync.Mutex
	began time.Time
	drawn time.Time
	shown bool
	work  string
	done  int
	total int
}

// NewProgress returns a bar on a terminal, and one that shows nothing in CI or
// where f is no terminal.
func NewProgress(f *os.File, getenv func(string) string) *Progress {
	p := &Progress{now: time.Now, began: time.Now()}
	if getenv("CI") != "" || getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.w, p.width = f, 80
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		p.width = width
	}
	return p
}

// Show says that done of total are done of some work. A total of 0 is not
// known.
func (p *Progress) Show(work string, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.work, p.done, p.total = work, done, total
	p.drawLocked()
}

// While does some work, and keeps the bar up although the work may not tell
// how far it is. Afterwards the bar is gone.
func (p *Progress) While(work func()) {
	defer p.Clear()
	if p.w == nil {
		work()
		return
	}
	over := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				p.mu.Lock()
				p.drawLocked()
				p.mu.Unlock()
			}
		}
	})
	defer drawing.Wait()
	defer close(over)
	work()
}

func (p *Progress) drawLocked() {
	if p.w == nil {
		return
	}
	now := p.now()
	if now.Sub(p.began) < patience || now.Sub(p.drawn) < redraw {
		return
	}
	p.drawn, p.shown = now, true
	_, _ = io.WriteString(p.w, "\r\x1b[K"+bar(p.work, p.done, p.total, p.width)) // it is only to look at
}

// Clear takes the bar away; call it before anything else is printed.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
	p.shown = false
}

// bar is one line, no wider than the terminal.
func bar(work string, done, total, width int) string {
	line := clean(work)
	if total > 0 {
		full := barWidth * min(done, total) / total
		line = fmt.Sprintf("[%s%s] %d/%d  %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), done, total, line)
	}
	for utf8.RuneCountInString(line) >= max(width, 2) {
		_, size := utf8.DecodeLastRuneInString(line)
		line = line[:len(line)-size]
	}
	return line
}
