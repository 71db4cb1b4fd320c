package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// connect asks for a connection as the API does.
func (s *site) connect(path string, upgrade bool) (*tls.Conn, *http.Response) {
	s.t.Helper()
	pair, err := tls.X509KeyPair(s.ca.Client(Organisation))
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port()), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if upgrade {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
	}
	if err := req.Write(conn); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn, resp
}

// listenAt takes what comes to an address, one after the other.
func listenAt(t *testing.T, host string) (port int, conns <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan net.Conn)
	go func() {
		defer close(out)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			out <- conn
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port, out
}

// TestConnect reaches what listens at the pod's address, until either end has
// enough or the server ends.
func TestConnect(t *testing.T) {
	port, conns := listenAt(t, podAddress.String())
	for _, who := range []string{"pod", "client", "server"} {
		s := newSite(t)
		near, resp := s.connect(fmt.Sprintf("/connect/default/web/%d", port), true)
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %s", who, resp.Status)
		}
		far := <-conns
		_, _ = io.WriteString(near, "ping")
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Errorf("%s: to the pod: %v", who, err)
		}
		_, _ = io.WriteString(far, "pong")
		if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
			t.Errorf("%s: from the pod: %v", who, err)
		}
		other := net.Conn(far)
		switch who {
		case "pod":
			_ = far.Close()
			other = near
		case "client":
			_ = near.Close()
		case "server":
			s.stop()
		}
		if n, err := other.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s has ended it, and %d bytes came", who, n)
		}
		_ = far.Close()
	}
}

func TestConnectRefused(t *testing.T) {
	s := newSite(t)
	local, _ := listenAt(t, "127.0.0.1")
	for _, c := range []struct {
		name, path string
		upgrade    bool
		want       string
	}{
		{"listens on loopback alone", fmt.Sprintf("/connect/default/web/%d", local), true, "502 Bad Gateway connect to port"},
		{"not upgraded", "/connect/default/web/80", false, `400 Bad Request header Upgrade="": not tcp`},
		{"no pod", "/connect/default/other/80", true, "404 Not Found"},
		{"no address", "/connect/default/half/80", true, "400 Bad Request the pod has no address"},
		{"no port", "/connect/default/web/0", true, `400 Bad Request port "0"`},
		{"not a port", "/connect/default/web/http", true, `400 Bad Request port "http"`},
	} {
		_, resp := s.connect(c.path, c.upgrade)
		text, _ := io.ReadAll(resp.Body)
		if got := resp.Status + " " + string(text); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if code, _ := s.get("/connect/default/web/80", nil, nil); code != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", code)
	}
}
