package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// connectProtocol is what a request for a connection is upgraded to: the bytes
// of the connection as they are.
const connectProtocol = "tcp"

const connected = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + connectProtocol + "\r\n\r\n"

// serveConnection connects the client with a port at the pod's own address, for
// the API's proxies of pods and services. What listens on the pod's loopback
// address is not for them: that is reached by forwarding a port.
func (s *Server) serveConnection(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), connectProtocol) {
		refuse(w, fmt.Errorf("header Upgrade=%q: not %s", r.Header.Get("Upgrade"), connectProtocol))
		return
	}
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		refuse(w, fmt.Errorf("port %q: not a number from 1 to 65535", r.PathValue("port")))
		return
	}
	netns, address, err := s.cfg.Pods.Network(r.PathValue("namespace"), r.PathValue("pod"), "")
	if err == nil && !address.IsValid() {
		err = errors.New("the pod has no address")
	}
	if err != nil {
		refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	far, err := dialIn(ctx, netns, int32(port), address.String())
	cancel()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	stream, r, done := s.takeOver(w, r)
	defer done()
	near, buffered, err := http.NewResponseController(stream).Hijack()
	if err != nil {
		s.fail(w, err)
		return
	}
	if _, err := io.WriteString(near, connected); err != nil {
		return // the client is gone
	}
	if err := join(r.Context(), far, readWriter{buffered, near}); err != nil {
		s.cfg.Logger.Debug("connection to pod broken", "pod", r.PathValue("namespace")+"/"+r.PathValue("pod"), "port", port, "error", err)
	}
}

// readWriter reads from one and writes to the other.
type readWriter struct {
	io.Reader
	io.Writer
}
