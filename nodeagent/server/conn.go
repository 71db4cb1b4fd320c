package server

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
)

// conn is a connection that a stream has taken over. What reads it finds out
// at once when the client is gone, and so does the request's context.
type conn struct {
	net.Conn
	gone context.CancelFunc
	s    *Server
	over chan struct{} // closed when its handler has returned
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.gone()
	}
	return n, err
}

// response lets a stream take its connection over.
type response struct {
	http.ResponseWriter
	s    *Server
	gone context.CancelFunc

	mu    sync.Mutex
	taken *conn
}

// takeOver prepares a request for a stream: its context ends with the client's
// connection.
func (s *Server) takeOver(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	stream := &response{ResponseWriter: w, s: s, gone: cancel}
	return stream, r.WithContext(ctx), func() {
		cancel()
		stream.end()
	}
}

// Hijack implements http.Hijacker.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, buffered, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := &conn{Conn: raw, gone: r.gone, s: r.s, over: make(chan struct{})}
	r.mu.Lock()
	r.taken = c
	r.mu.Unlock()
	r.s.mu.Lock()
	r.s.conns[c] = struct{}{}
	r.s.mu.Unlock()
	// What has come already was read from below c.
	early := make([]byte, buffered.Reader.Buffered())
	_, _ = buffered.Reader.Read(early)
	reader := bufio.NewReader(&rest{early: early, c: c})
	return c, bufio.NewReadWriter(reader, bufio.NewWriter(c)), nil
}

// rest reads what came early, and then the connection.
type rest struct {
	early []byte
	c     *conn
}

func (r *rest) Read(p []byte) (int, error) {
	if len(r.early) > 0 {
		n := copy(p, r.early)
		r.early = r.early[n:]
		return n, nil
	}
	return r.c.Read(p)
}

func (r *response) end() {
	r.mu.Lock()
	c := r.taken
	r.mu.Unlock()
	if c == nil {
		return
	}
	_ = c.Close()
	r.s.mu.Lock()
	delete(r.s.conns, c)
	r.s.mu.Unlock()
	close(c.over)
}

// closeStreams closes the connections that http.Server no longer knows of.
func (s *Server) closeStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
		c.gone()
	}
}

// awaitStreams waits until all their handlers have returned.
func (s *Server) awaitStreams() {
	for {
		s.mu.Lock()
		var one *conn
		for c := range s.conns {
			one = c
			break
		}
		s.mu.Unlock()
		if one == nil {
			return
		}
		<-one.over
	}
}
