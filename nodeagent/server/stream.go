package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/utils/exec"

	"github.com/evenkeel/evenkeel/nodeagent/runtime"
)

const (
	// idleTimeout ends a stream on which nothing moves, as the kubelet does.
	idleTimeout = 4 * time.Hour
	// creationTimeout bounds the wait for the client's streams.
	creationTimeout = 30 * time.Second
)

func (s *Server) serveExec(w http.ResponseWriter, r *http.Request) {
	run, options, ok := s.streamed(w, r)
	if !ok {
		return
	}
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		refuse(w, errors.New("query command: what is to be run is not said"))
		return
	}
	stream, r, done := s.takeOver(w, r)
	defer done()
	remotecommand.ServeExec(stream, r, executor{s}, run.Log.Pod, run.Log.UID, run.Log.ID, command,
		options, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request) {
	run, options, ok := s.streamed(w, r)
	if !ok {
		return
	}
	stream, r, done := s.takeOver(w, r)
	defer done()
	remotecommand.ServeAttach(stream, r, attacher{s, run}, run.Log.Pod, run.Log.UID, run.Log.ID,
		options, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
}

// streamed finds the running container that a request names, or answers it.
func (s *Server) streamed(w http.ResponseWriter, r *http.Request) (Run, *remotecommand.Options, bool) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		refuse(w, err)
		return Run{}, nil, false
	}
	run, err := s.cfg.Pods.Run(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid"), r.PathValue("container"), false)
	if err == nil && !run.Running {
		err = fmt.Errorf("container %q in pod %q is not running", run.Log.Name, run.Log.Pod)
	}
	if err != nil {
		refuse(w, err)
		return Run{}, nil, false
	}
	return run, options, true
}

// executor runs commands for remotecommand.
type executor struct{ s *Server }

func (e executor) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, bad io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	sizes, done := sizesOf(ctx, resize)
	defer done()
	code, err := e.s.cfg.Containers.Stream(ctx, id, runtime.Command{
		Args: command, Stdin: in, Stdout: writer(out), Stderr: writer(bad), TTY: tty, Resize: sizes,
	})
	if err != nil {
		return err
	}
	if code != 0 {
		return exec.CodeExitError{Code: code, Err: errors.New(strconv.Itoa(code))}
	}
	return nil
}

// writer keeps a stream that is not there from being one that holds nil.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// sizesOf translates until done is called or there are no more.
func sizesOf(ctx context.Context, from <-chan remotecommand.TerminalSize) (to <-chan runtime.TerminalSize, done func()) {
	if from == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	sizes, ended := make(chan runtime.TerminalSize), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(sizes)
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-from:
				if !ok {
					return
				}
				select {
				case sizes <- runtime.TerminalSize{Width: size.Width, Height: size.Height}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return sizes, func() { cancel(); <-ended }
}

// attacher connects streams to a container's own.
type attacher struct {
	s   *Server
	run Run
}

func (a attacher) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, bad io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	if in != nil {
		pipe, err := a.s.cfg.Containers.Stdin(ctx, id)
		switch {
		case err == nil:
			// It ends with the stream, or when the container does not read any more.
			go a.feed(ctx, pipe, in)
			defer pipe.Close()
		case !errors.Is(err, runtime.ErrNotFound):
			return err
		}
	}
	sizes, done := sizesOf(ctx, resize)
	defer done()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-ended:
				return
			case size, ok := <-sizes:
				if !ok {
					return
				}
				if err := a.s.cfg.Containers.Resize(ctx, id, size); err != nil && ctx.Err() == nil {
					a.s.cfg.Logger.Debug("terminal not resized", "container", id, "error", err)
				}
			}
		}
	}()
	if out == nil && bad == nil {
		out = discard{} // attached until the container ends all the same
	}
	return a.s.cfg.Logs.Attach(ctx, a.run.Log, writer(out), writer(bad))
}

// feed copies what is typed. The end of it ends a container's input only if
// that is for once.
func (a attacher) feed(ctx context.Context, pipe io.WriteCloser, in io.Reader) {
	_, err := io.Copy(pipe, in)
	_ = pipe.Close()
	if err != nil || !a.run.StdinOnce {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := a.s.cfg.Containers.CloseStdin(ctx, a.run.Log.ID); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		a.s.cfg.Logger.Warn("input of container not closed", "container", a.run.Log.ID, "error", err)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
