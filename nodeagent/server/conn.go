package server

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
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
	spdy bool

	mu    sync.Mutex
	taken *conn
}

// takeOver prepares a request for a stream: its context ends with the client's
// connection.
func (s *Server) takeOver(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request, func()) {
	ctx, cancel := context.WithCancel(r.Context())
	spdy := strings.Contains(strings.ToLower(r.Header.Get("Upgrade")), "spdy")
	stream := &response{ResponseWriter: w, s: s, gone: cancel, spdy: spdy}
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
	rest := &remainder{early: early, c: c}
	if r.spdy {
		rest.frames = &frames{}
	}
	reader := bufio.NewReader(rest)
	return c, bufio.NewReadWriter(reader, bufio.NewWriter(c)), nil
}

// remainder reads what came early, and then the connection.
type remainder struct {
	early  []byte
	c      *conn
	frames *frames // nil unless it is SPDY
}

func (r *remainder) Read(p []byte) (n int, err error) {
	if len(r.early) > 0 {
		n = copy(p, r.early)
		r.early = r.early[n:]
	} else {
		n, err = r.c.Read(p)
	}
	if r.frames != nil && r.frames.goAway(p[:n]) {
		r.c.gone()
	}
	return n, err
}

// frames follows the frames of a SPDY connection. A client that leaves says so
// in one, after which nobody reads on to find the connection closed.
type frames struct {
	head [8]byte
	have int // bytes of head
	skip int // bytes of the frame's body that are still to come
}

// typeGoAway is the first half of a GOAWAY frame's head: control, version 3,
// type 7.
var typeGoAway = []byte{0x80, 3, 0, 7}

// goAway takes the next bytes, and reports whether such a frame begins in them.
func (f *frames) goAway(p []byte) (found bool) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(p))
			f.skip -= n
			p = p[n:]
			continue
		}
		n := copy(f.head[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have == len(f.head) {
			found = found || bytes.Equal(f.head[:4], typeGoAway)
			f.skip = int(f.head[5])<<16 | int(f.head[6])<<8 | int(f.head[7])
			f.have = 0
		}
	}
	return found
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
