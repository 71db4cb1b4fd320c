package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/evenkeel/evenkeel/nodeagent/logs"
	"github.com/evenkeel/evenkeel/nodeagent/server/servertest"
)

func TestWhoMayAsk(t *testing.T) {
	s := newSite(t)
	api, apiKey := s.ca.Client(Organisation)
	person, personKey := s.ca.Client("system:masters")
	stranger, strangerKey := servertest.NewAuthority(t).Client(Organisation)
	for name, test := range map[string]struct {
		path      string
		cert, key []byte
		want      int
	}{
		"the API":               {"/pods", api, apiKey, 200},
		"nobody":                {"/pods", nil, nil, 401},
		"a stranger":            {"/pods", stranger, strangerKey, 401},
		"a person":              {"/pods", person, personKey, 403},
		"nobody, about health":  {"/healthz", nil, nil, 200},
		"nobody, about nothing": {"/nothing", nil, nil, 401},
		"the API, of nothing":   {"/nothing", api, apiKey, 404},
	} {
		if code, body := s.get(test.path, test.cert, test.key); code != test.want {
			t.Errorf("%s: got %d %s, want %d", name, code, body, test.want)
		}
	}
	s.trusts(nil)
	if code, _ := s.get("/pods", api, apiKey); code != 401 {
		t.Errorf("before an authority is known: %d", code)
	}
	other := servertest.NewAuthority(t)
	s.trusts(other.PEM())
	if code, _ := s.get("/pods", api, apiKey); code != 401 {
		t.Errorf("by an authority that was replaced: %d", code)
	}
	cert, key := other.Client(Organisation)
	if code, _ := s.get("/pods", cert, key); code != 200 {
		t.Errorf("by the new authority: %d", code)
	}
}

func TestAnswers(t *testing.T) {
	s := newSite(t)
	cert, key := s.ca.Client(Organisation)
	for path, want := range map[string]string{
		"/pods":                           `200 {"metadata":{},"items":[{"metadata":{"name":"web"},`,
		"/stats/summary":                  `200 {"node":{"nodeName":"n1","startTime":null,"cpu":{"time":null,"usageNanoCores":5},"fs":`,
		"/metrics/resource":               "200 node_cpu_usage_seconds_total 1",
		"/metrics":                        "200 ",
		"/containerLogs/default/web/main": `200 tail=-1 follow=false limit=0 stream="" stamps=false since=false`,
		"/containerLogs/default/web/main?tailLines=5&follow=true&timestamps=true&sinceSeconds=9":    `200 tail=5 follow=true limit=0 stream="" stamps=true since=true`,
		"/containerLogs/default/web/main?limitBytes=7&stream=Stderr&sinceTime=2026-01-02T03:04:05Z": `200 tail=-1 follow=false limit=7 stream="stderr" stamps=false since=true`,
		"/containerLogs/default/web/main?previous=true":                                             "400 previous terminated container not found",
		"/containerLogs/default/web/main?tailLines=-1":                                              `400 query tailLines="-1": not a number from 0 on`,
		"/containerLogs/default/web/main?limitBytes=0":                                              `400 query limitBytes="0": not a number from 1 on`,
		"/containerLogs/default/web/main?follow=maybe":                                              `400 query follow="maybe": neither true nor false`,
		"/containerLogs/default/web/main?sinceTime=noon":                                            `400 query sinceTime="noon": not a time as in RFC 3339`,
		"/containerLogs/default/web/main?stream=Stdlog":                                             `400 query stream="Stdlog": none of All, Stdout and Stderr`,
		"/containerLogs/default/web/other":                                                          `404 container "other": not found`,
		"/containerLogs/default/web/ended":                                                          `404 log of container "ended" in pod "" is gone: not found`,
		"/exec/default/web/ended?command=x&output=1":                                                `400 container "ended" in pod "" is not running`,
		"/exec/default/web/main?output=1":                                                           "400 query command: what is to be run is not said",
		"/exec/default/web/main?command=x":                                                          "400 you must specify at least 1 of stdin, stdout, stderr",
		"/portForward/default/other":                                                                "404 not found",
	} {
		code, body := s.get(path, cert, key)
		if got := fmt.Sprintf("%d %s", code, body); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if _, body := s.get("/stats/summary?only_cpu_and_memory=true", cert, key); strings.Contains(body, `"fs"`) {
		t.Errorf("more than CPU and memory: %s", body)
	}
}

func TestExec(t *testing.T) {
	s := newSite(t)
	run := func(query string, o remotecommand.StreamOptions) error {
		t.Helper()
		return servertest.Executor(t, s.config(), "/exec/default/web/main?"+query).StreamWithContext(t.Context(), o)
	}
	var out, bad bytes.Buffer
	text := strings.Repeat("all of it\n", 100_000)
	err := run("command=cat&input=1&output=1&error=1", remotecommand.StreamOptions{Stdin: strings.NewReader(text), Stdout: &out, Stderr: &bad})
	if err != nil || out.String() != text {
		t.Errorf("got %d bytes of %d, %v", out.Len(), len(text), err)
	}
	err = run("command=fail&output=1&error=1", remotecommand.StreamOptions{Stdout: &out, Stderr: &bad})
	if coded, ok := err.(interface{ ExitStatus() int }); !ok || coded.ExitStatus() != 7 || bad.String() != "no" {
		t.Errorf("got %v and %q", err, bad.String())
	}
	out.Reset()
	sizes := fixedSize{Width: 120, Height: 40}
	err = run("command=size&output=1&tty=1", remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: &sizes})
	if err != nil || out.String() != "120x40 true" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	err = run("command=none&output=1", remotecommand.StreamOptions{Stdout: &out})
	if err == nil || !strings.Contains(err.Error(), "no such command") {
		t.Errorf("got %v", err)
	}
}

type fixedSize remotecommand.TerminalSize

func (f *fixedSize) Next() *remotecommand.TerminalSize {
	if f.Width == 0 {
		return nil
	}
	size := remotecommand.TerminalSize(*f)
	f.Width = 0
	return &size
}

// A command whose client goes away is ended, and so is what runs when the
// server ends.
func TestClientGone(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		s := newSite(t)
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan error, 1)
		hang := servertest.Executor(t, s.config(), "/exec/default/web/main?command=hang&output=1")
		go func() { done <- hang.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: w}) }()
		if _, err := io.ReadFull(r, make([]byte, len("hanging"))); err != nil {
			t.Fatal(err)
		}
		if who == "client" {
			cancel()
		} else {
			s.stop()
		}
		await(t, "ended", func() bool { s.containers.mu.Lock(); defer s.containers.mu.Unlock(); return s.containers.killed })
		cancel()
		_ = r.Close()
		<-done
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("never %s", what)
		case <-ticker.C:
		}
	}
}

func TestAttach(t *testing.T) {
	s := newSite(t)
	var out bytes.Buffer
	done := make(chan error, 1)
	attach := servertest.Executor(t, s.config(), "/attach/default/web/main?input=1&output=1")
	go func() {
		done <- attach.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("typed"), Stdout: &out})
	}()
	in := s.containers.inputs["c1"]
	await(t, "typed, and its end", func() bool { in.mu.Lock(); defer in.mu.Unlock(); return string(in.data) == "typed" && in.closed })
	close(s.logs.ended)
	if err := <-done; err != nil || out.String() != "attached" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestPortForward(t *testing.T) {
	s := newSite(t)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	address := servertest.Forward(t, s.config(), "/portForward/default/web", echo.Addr().(*net.TCPAddr).Port)
	for range 3 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "ping")
		_ = conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "ping" {
			t.Errorf("got %q, %v", got, err)
		}
		_ = conn.Close()
	}
}

func TestAddress(t *testing.T) {
	s := newSite(t)
	cfg := s.cfg
	cfg.Address = s.listener.Addr().String()
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "--server-address") {
		t.Errorf("a port that is taken: %v", err)
	}
	cfg.Address, cfg.Node = "", ""
	if _, err := New(cfg); err == nil {
		t.Error("no error without a name")
	}
}

func TestLogOptions(t *testing.T) {
	now := time.Unix(1000, 0)
	got, previous, err := logOptions(url.Values{"sinceSeconds": {"10"}, "previous": {"1"}, "stream": {"All"}}, now)
	if err != nil || !previous {
		t.Error(previous, err)
	}
	if diff := cmp.Diff(logs.Options{Tail: -1, Since: now.Add(-10 * time.Second)}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []url.Values{
		{"sinceSeconds": {"10"}, "sinceTime": {"2026-01-02T03:04:05Z"}},
		{"stream": {"Stdout"}, "tailLines": {"3"}},
	} {
		if _, _, err := logOptions(bad, now); err == nil {
			t.Errorf("no error for %v", bad)
		}
	}
}
