package git

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	cryptossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/manifests/manifeststest"
)

// sshServer runs git-upload-pack for whoever has the right key.
type sshServer struct {
	t      *testing.T
	config *cryptossh.ServerConfig
	port   string
	sent   atomic.Int64 // bytes of packs and references
	ran    atomic.Int64
	wait   sync.WaitGroup
}

// newKey makes a key pair of our own, and the file of its private half.
func newKey(t *testing.T) (file string, public cryptossh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := cryptossh.MarshalPrivateKey(private, "")
	must(t, err)
	file = filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	signer, err := cryptossh.NewSignerFromKey(private)
	must(t, err)
	return file, signer.PublicKey()
}

// serveSSH serves the repositories of this machine on loopback until the test
// ends, with two host keys as most servers have; it returns those.
func serveSSH(t *testing.T, allowed cryptossh.PublicKey) (s *sshServer, ed, ec cryptossh.PublicKey) {
	t.Helper()
	s = &sshServer{t: t, config: &cryptossh.ServerConfig{
		PublicKeyCallback: func(c cryptossh.ConnMetadata, key cryptossh.PublicKey) (*cryptossh.Permissions, error) {
			if c.User() != "git" || !bytes.Equal(key.Marshal(), allowed.Marshal()) {
				return nil, errors.New("not this key")
			}
			return nil, nil
		},
	}}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	edSigner, err := cryptossh.NewSignerFromKey(edKey)
	must(t, err)
	ecSigner, err := cryptossh.NewSignerFromKey(ecKey)
	must(t, err)
	s.config.AddHostKey(edSigner)
	s.config.AddHostKey(ecSigner)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, s.port, err = net.SplitHostPort(listener.Addr().String())
	must(t, err)
	s.wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.wait.Go(func() { s.connection(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.wait.Wait()
	})
	return s, edSigner.PublicKey(), ecSigner.PublicKey()
}

func (s *sshServer) connection(conn net.Conn) {
	defer conn.Close()
	server, channels, requests, err := cryptossh.NewServerConn(conn, s.config)
	if err != nil {
		return // refused
	}
	defer server.Close()
	s.wait.Go(func() { cryptossh.DiscardRequests(requests) })
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		s.wait.Go(func() { s.session(channel, requests) })
	}
}

func (s *sshServer) session(channel cryptossh.Channel, requests <-chan *cryptossh.Request) {
	defer channel.Close()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var command struct{ Line string }
		_ = cryptossh.Unmarshal(r.Payload, &command)
		path, ok := strings.CutPrefix(command.Line, "git-upload-pack '")
		_ = r.Reply(ok, nil)
		if !ok {
			return
		}
		s.ran.Add(1)
		cmd := exec.Command("git", "upload-pack", strings.TrimSuffix(path, "'"))
		in, err := cmd.StdinPipe()
		if err != nil {
			return
		}
		cmd.Stdout, cmd.Stderr = &counted{channel, &s.sent}, channel.Stderr()
		if err := cmd.Start(); err != nil {
			return
		}
		s.wait.Go(func() { _, _ = io.Copy(in, channel); _ = in.Close() })
		var status struct{ Code uint32 }
		if cmd.Wait() != nil {
			status.Code = 128
		}
		_, _ = channel.SendRequest("exit-status", false, cryptossh.Marshal(status))
		return
	}
}

// counted counts what is written.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Writer.Write(p)
}

// trust writes a known_hosts file, the only one that is read.
func (s *sshServer) trust(keys ...cryptossh.PublicKey) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "known_hosts")
	var text strings.Builder
	for _, key := range keys {
		fmt.Fprintln(&text, knownhosts.Line([]string{"[127.0.0.1]:" + s.port}, key))
	}
	must(s.t, os.WriteFile(file, []byte(text.String()), 0o600))
	s.t.Setenv("SSH_KNOWN_HOSTS", file)
}

// TestSSHFollows fetches over ssh, by both ways to write it: what the remote
// has gained, and no more.
func TestSSHFollows(t *testing.T) {
	for name, form := range map[string]string{"url": "ssh://git@127.0.0.1:%s%s", "scp-like": "git@127.0.0.1:%s:%s"} {
		for _, kind := range []string{"ed25519", "ecdsa"} {
			t.Run(name+" known by "+kind, func(t *testing.T) {
				w := newWork(t)
				big := make([]byte, 300<<10)
				_, err := rand.Read(big)
				must(t, err)
				w.commit("first", "a.yaml", "1", "big.bin", string(big))
				bare := w.bare()
				file, public := newKey(t)
				server, ed, ec := serveSSH(t, public)
				server.trust(map[string]cryptossh.PublicKey{"ed25519": ed, "ecdsa": ec}[kind])
				t.Setenv(envKey, file)
				s := source(t, Config{URL: fmt.Sprintf(form, server.port, bare)})
				snapshot(t, s)
				first := server.sent.Swap(0)

				second := w.commit("second", "b.yaml", "2")
				w.git("push", "-q", "origin", "main")
				snap := snapshot(t, s)
				if diff := cmp.Diff(map[string]string{"a.yaml": "1", "b.yaml": "2"}, manifeststest.Contents(t, snap)); diff != "" || snap.Revision != second {
					t.Errorf("%s, files:\n%s", snap.Revision, diff)
				}
				if more := server.sent.Load(); first < 300<<10 || more > 20<<10 {
					t.Errorf("%d bytes were sent for all, %d for one commit more", first, more)
				}
			})
		}
	}
}

// TestSSHRefuses: nobody is trusted who is not known, and the error says what
// to do.
func TestSSHRefuses(t *testing.T) {
	w := newWork(t)
	w.commit("first", "a.yaml", "1")
	bare := w.bare()
	file, public := newKey(t)
	strange, other := newKey(t)
	for name, tc := range map[string]struct {
		known func(s *sshServer, ed cryptossh.PublicKey)
		key   string
		want  []string
	}{
		"host not known": {
			func(s *sshServer, _ cryptossh.PublicKey) { s.trust() },
			file,
			[]string{"key is unknown", "SHA256:", "ssh-keyscan -p ", " 127.0.0.1 >> ~/.ssh/known_hosts"},
		},
		"no known_hosts": {
			func(s *sshServer, _ cryptossh.PublicKey) { t.Setenv("SSH_KNOWN_HOSTS", filepath.Join(bare, "none")) },
			file,
			[]string{"known_hosts", "ssh-keyscan -p "},
		},
		"another host key": {
			func(s *sshServer, _ cryptossh.PublicKey) { s.trust(other) },
			file,
			[]string{"key mismatch", "the host shows ssh-ed25519 SHA256:", "known_hosts:1 has another"},
		},
		"another key of ours": {
			func(s *sshServer, ed cryptossh.PublicKey) { s.trust(ed) },
			strange,
			[]string{"unable to authenticate", "register its public half", envKey},
		},
		"no such repository": {
			func(s *sshServer, ed cryptossh.PublicKey) { s.trust(ed) },
			file,
			[]string{"repository not found"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, ed, _ := serveSSH(t, public)
			tc.known(server, ed)
			t.Setenv(envKey, tc.key)
			url := "ssh://git@127.0.0.1:" + server.port + bare
			if name == "no such repository" {
				url += "x"
			}
			_, err := source(t, Config{URL: url}).Snapshot(t.Context())
			if !manifests.IsUnavailable(err) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if ran := server.ran.Load(); ran > 0 && name != "no such repository" {
				t.Errorf("%d commands ran", ran)
			}
			t.Log(err)
		})
	}
}
