package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// attachment is somebody who sees a container's output as it is written.
type attachment struct {
	f  [2]*os.File     // the spools
	at [2]atomic.Int64 // how far in each
}

// Attach writes a container's raw output, from now on, until the container has
// ended and all was written, or ctx ends, which is no error. Who does not take
// it in time misses some; the container does not wait.
func (m *Manager) Attach(ctx context.Context, c Container, stdout, stderr io.Writer) error {
	t := m.find(c)
	if t == nil {
		return fmt.Errorf("attach to container %s: %w", c.ID, ErrNoLog)
	}
	a := &attachment{}
	defer t.detach(a)
	if err := t.attach(a); err != nil {
		return fmt.Errorf("attach to container %s: %w", c.ID, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, w := range [2]io.Writer{stdout, stderr} {
		if w != nil && a.f[i] != nil {
			g.Go(func() error { return t.show(ctx, a, i, w) })
		}
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("attach to container %s: %w", c.ID, err)
	}
	return nil
}

func (t *tailer) attach(a *attachment) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range t.spools {
		if s == nil {
			continue
		}
		f, err := os.Open(s.path)
		if err != nil {
			return err
		}
		a.f[i] = f
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		a.at[i].Store(end)
	}
	t.attached[a] = struct{}{}
	return nil
}

func (t *tailer) detach(a *attachment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.attached, a)
	for _, f := range a.f {
		if f != nil {
			_ = f.Close()
		}
	}
}

// show writes one stream.
func (t *tailer) show(ctx context.Context, a *attachment, i int, w io.Writer) error {
	b := make([]byte, 32<<10)
	for {
		ended, _, moved := t.progress()
		for {
			n, err := t.readAttached(a, i, b)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

// readAttached reads on. What may have been freed before it was read is left
// out.
func (t *tailer) readAttached(a *attachment, i int, b []byte) (int, error) {
	for {
		at := a.at[i].Load()
		n, err := a.f[i].ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		t.mu.Lock()
		kept := t.rec.read[i] - attachedStep
		t.mu.Unlock()
		if at >= kept {
			a.at[i].Add(int64(n))
			return n, nil
		}
		a.at[i].Store(kept)
	}
}
