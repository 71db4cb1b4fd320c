package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// pump does for a container what its shim no longer does: it moves what the
// container writes from a pipe to a spool. The container does not wait for a
// disk that is full: what there is no room for is left out, and said to be.
type pump struct {
	from io.Reader
	to   io.Writer
	lost int64 // bytes, since the last that was written
}

// run ends when the container has closed the pipe, or reading fails.
func (p *pump) run() {
	buf := make([]byte, 32<<10)
	for {
		n, err := p.from.Read(buf)
		if n > 0 {
			p.put(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (p *pump) put(b []byte) {
	if p.lost > 0 {
		if n, err := fmt.Fprintf(p.to, "\n[%d bytes of output are missing here: they could not be written]\n", p.lost); err != nil {
			if n > 0 {
				_, _ = p.to.Write([]byte("\n"))
			}
			p.lost += int64(len(b))
			return
		}
		p.lost = 0
	}
	n, err := p.to.Write(b)
	if err != nil {
		p.lost += int64(len(b) - n)
	}
}

// startPumps begins to read pipes for the spools that nobody writes to.
func (t *tailer) startPumps(ctx context.Context, pipes [2]string) {
	for i, s := range t.spools {
		if s == nil || !s.closed.Load() || pipes[i] == "" {
			continue
		}
		if err := t.startPump(ctx, s, pipes[i]); err != nil {
			t.m.cfg.Logger.Warn("output not taken", "container", t.c.ID, "pod", t.c.Namespace+"/"+t.c.Pod, "stream", streams[i], "error", err)
			continue
		}
		t.m.cfg.Logger.Warn("output taken in place of the shim, which could not write it", "container", t.c.ID, "pod", t.c.Namespace+"/"+t.c.Pod, "stream", streams[i])
	}
}

func (t *tailer) startPump(ctx context.Context, s *spool, pipe string) error {
	from, err := openPipe(t.c, pipe)
	if err != nil {
		return err
	}
	to, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		_ = from.Close()
		return fmt.Errorf("open spool: %w", err)
	}
	s.closed.Store(false)
	// What the shim lost is not known, nor whether it ended in a line.
	_, _ = to.WriteString("\n[some output is missing here: it could not be written]\n")
	t.pumps.Go(func() {
		defer to.Close()
		defer from.Close()
		defer context.AfterFunc(ctx, func() { _ = from.SetReadDeadline(time.Now()) })()
		(&pump{from: from, to: to}).run()
	})
	return nil
}
