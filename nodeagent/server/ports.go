package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	goruntime "runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

func (s *Server) servePorts(w http.ResponseWriter, r *http.Request) {
	namespace, pod, uid := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid")
	netns, _, err := s.cfg.Pods.Network(namespace, pod, uid)
	if err != nil {
		refuse(w, err)
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		refuse(w, err)
		return
	}
	stream, r, done := s.takeOver(w, r)
	defer done()
	portforward.ServePortForward(stream, r, forwarder{ctx: r.Context(), netns: netns}, pod, uid, options,
		idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// forwarder connects streams with ports of a pod. It keeps the request's
// context, which portforward does not hand on.
type forwarder struct {
	ctx   context.Context
	netns string
}

const dialTimeout = 30 * time.Second

func (f forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	ctx, cancel := context.WithTimeout(f.ctx, dialTimeout)
	conn, err := dialIn(ctx, f.netns, port, "127.0.0.1", "::1")
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	return join(f.ctx, conn, stream)
}

// join carries bytes both ways until far has said all that it has to say or ctx
// ends, which closes far.
func join(ctx context.Context, far *net.TCPConn, near io.ReadWriter) error {
	stop := context.AfterFunc(ctx, func() { _ = far.Close() })
	defer stop()
	go func() { // ends with the stream
		_, _ = io.Copy(far, near)
		_ = far.CloseWrite()
	}()
	_, err := io.Copy(near, far)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// dialIn connects to a port of the first of this machine's addresses that
// answers, as they are in a network namespace.
func dialIn(ctx context.Context, netns string, port int32, hosts ...string) (*net.TCPConn, error) {
	var errs []error
	for _, host := range hosts {
		var conn net.Conn
		err := inNetNS(netns, func() (err error) {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
			return err
		})
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			return tcp, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("connect to port %d of the pod: %w", port, errors.Join(errs...))
}

// inNetNS runs f on a thread in a network namespace, which ends with it. The
// process's first thread cannot end, so f never gets it.
func inNetNS(path string, f func() error) error {
	if path == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("function did not return")
		defer func() { done <- err }()
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer goruntime.UnlockOSThread()
			err = inNetNS(path, f)
			return
		}
		if err = enter(path); err == nil {
			err = f()
		}
	}()
	return <-done
}

func enter(path string) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
