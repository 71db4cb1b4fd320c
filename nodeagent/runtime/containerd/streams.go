package containerd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/cio"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const (
	defaultTerm = "TERM=xterm"
	// endOfTransmission is what a terminal makes the end of its input.
	endOfTransmission = "\x04"
	// streamPatience is drainTime for a person's command, whose children may
	// have more to say.
	streamPatience = 2 * time.Second
)

// Stream runs a command with the caller's streams.
func (r *Runtime) Stream(ctx context.Context, id string, command rt.Command) (int, error) {
	e := &execution{r: r, container: id, command: command, patience: streamPatience}
	return e.run(r.scope(ctx))
}

func (e *execution) openPipes(ctx context.Context, began <-chan struct{}) (cio.IO, error) {
	var in io.Reader
	if e.command.Stdin != nil {
		in = &lastRead{from: e.command.Stdin, tty: e.command.TTY, atEnd: func() { e.closeInput(ctx, began) }}
	}
	// The shim wants both outputs, or none.
	out, bad := orDiscard(e.command.Stdout), orDiscard(e.command.Stderr)
	opts := []cio.Opt{cio.WithStreams(in, e.flow.into(out), e.flow.into(bad)), cio.WithFIFODir(e.r.cfg.StateDir)}
	if e.command.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	return cio.NewCreator(opts...)(e.id)
}

// closeInput ends the command's input: the shim holds the pipe open until it
// is told.
func (e *execution) closeInput(ctx context.Context, began <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-began:
	}
	_, err := e.r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: e.container, ExecID: e.id, Stdin: true})
	if err != nil && !gone(err) {
		e.r.log.Debug("input of a command not closed", "container", e.container, "exec", e.id, "error", native(err))
	}
}

// followSize gives the command's terminal the sizes that the caller sends,
// until the returned function is called.
func (e *execution) followSize(ctx context.Context) (stop func()) {
	if !e.command.TTY || e.command.Resize == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-e.command.Resize:
				if !ok {
					return
				}
				if err := e.r.resize(ctx, e.container, e.id, size); err != nil && ctx.Err() == nil {
					e.r.log.Debug("terminal not resized", "container", e.container, "exec", e.id, "error", err)
				}
			}
		}
	})
	return func() { cancel(); following.Wait() }
}

// closePipes takes what is left of the output: until its pipes are closed, or
// nothing more has come for a while from children that hold them open. A
// reader that is slow is waited for, until ctx ends.
func (e *execution) closePipes(ctx context.Context, pipes cio.IO) {
	drained := make(chan struct{})
	var copying sync.WaitGroup
	copying.Go(func() { pipes.Wait(); close(drained) })
	ticker := time.NewTicker(e.patience)
	defer ticker.Stop()
	for seen, waiting := e.flow.written.Load(), true; waiting; {
		select {
		case <-drained:
			waiting = false
		case <-ctx.Done():
			pipes.Cancel()
			waiting = false
		case <-ticker.C:
			now := e.flow.written.Load()
			if now == seen && e.flow.writing.Load() == 0 {
				pipes.Cancel()
				waiting = false
			}
			seen = now
		}
	}
	_ = pipes.Close()
	copying.Wait()
}

// flow watches output on its way to the caller.
type flow struct {
	written atomic.Int64 // writes that were done
	writing atomic.Int32 // writes that wait for the caller
}

func (f *flow) into(w io.Writer) io.Writer { return flowWriter{f, w} }

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

type flowWriter struct {
	f *flow
	w io.Writer
}

func (w flowWriter) Write(p []byte) (int, error) {
	w.f.writing.Add(1)
	defer w.f.writing.Add(-1)
	n, err := w.w.Write(p)
	w.f.written.Add(1)
	return n, err
}

// lastRead calls atEnd when its source ends. A terminal's end of input is said
// by a character, as who typed it would: closing it would hang up on output.
type lastRead struct {
	from  io.Reader
	tty   bool
	atEnd func()
	ended bool
}

func (l *lastRead) Read(p []byte) (int, error) {
	if l.ended {
		return 0, io.EOF
	}
	n, err := l.from.Read(p)
	if err == nil {
		return n, nil
	}
	l.ended = true
	if !l.tty {
		if n > 0 {
			// The end is told after what was read has been handed on.
			l.ended, l.from = false, ended{err}
			return n, nil
		}
		l.atEnd()
		return 0, err
	}
	if n < len(p) {
		n += copy(p[n:], endOfTransmission)
	}
	return n, nil
}

type ended struct{ err error }

func (e ended) Read([]byte) (int, error) { return 0, e.err }

func (r *Runtime) stdinPath(id string) string { return filepath.Join(r.cfg.StateDir, id+".stdin") }

// makeStdin makes the pipe through which a container gets its input. The shim
// opens both ends of it, so that it outlives every writer.
func (r *Runtime) makeStdin(id string) (string, error) {
	path := r.stdinPath(id)
	if err := syscall.Mkfifo(path, 0o600); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("make standard input of %s: %w", id, err)
	}
	return path, nil
}

// Stdin opens a container's standard input.
func (r *Runtime) Stdin(_ context.Context, id string) (io.WriteCloser, error) {
	f, err := os.OpenFile(r.stdinPath(id), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil { // it has none, or nobody reads it any more
		return nil, fmt.Errorf("standard input of %s: %w: %w", id, rt.ErrNotFound, err)
	}
	return f, nil
}

// CloseStdin ends a container's standard input.
func (r *Runtime) CloseStdin(ctx context.Context, id string) error {
	_, err := r.client.TaskService().CloseIO(r.scope(ctx), &tasks.CloseIORequest{ContainerID: id, Stdin: true})
	return wrap("close the standard input of "+id, err)
}

// Resize sets the size of a container's terminal.
func (r *Runtime) Resize(ctx context.Context, id string, size rt.TerminalSize) error {
	return r.resize(r.scope(ctx), id, "", size)
}

func (r *Runtime) resize(ctx context.Context, container, exec string, size rt.TerminalSize) error {
	_, err := r.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{
		ContainerID: container, ExecID: exec, Width: uint32(size.Width), Height: uint32(size.Height),
	})
	return wrap("resize the terminal of "+container, err)
}
