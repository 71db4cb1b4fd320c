// Command echo is what end-to-end tests run in pods. Over HTTP it tells its
// pod's name and does as it is told; over TCP and UDP it sends back what it
// gets, after its pod's name.
//
//	GET /            the pod's name
//	GET /healthz     200, or 503 after /ill
//	GET /ill, /well  change what /healthz says
//	GET /env         the environment
//	GET /cat?path=   a file
//	GET /dial?url=   gets http://…, or sends a line to tcp:// or udp://, and tells the answer
//	GET /lookup?name= the addresses of a name
//	GET /eat?mib=    takes memory
//	GET /exit?code=  exits
//
// Environment: HTTP_PORT (8080), TCP_PORT (9000), UDP_PORT (9000), EXIT_CODE (exit
// with it at once), WRITE ("path=text": write a file and end, as an init
// container does), START_DELAY (a duration before anything is served), CHATTER
// (a duration: so often, a numbered line on stdout).
//
// As `echo get URL`, which is a probe, it does what /dial does, and ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const dialTimeout = 5 * time.Second

var (
	ill   atomic.Bool
	mu    sync.Mutex
	eaten [][]byte
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "get" {
		get(os.Args[2])
		return
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if code := os.Getenv("EXIT_CODE"); code != "" {
		exit(code)
	}
	if path, text, found := strings.Cut(os.Getenv("WRITE"), "="); found {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			slog.Error("not written", "error", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if delay, err := time.ParseDuration(os.Getenv("START_DELAY")); err == nil {
		time.Sleep(delay)
	}
	if err := run(ctx); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	lines, err := net.Listen("tcp", ":"+env("TCP_PORT", "9000"))
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", ":"+env("UDP_PORT", "9000"))
	if err != nil {
		return err
	}
	server := &http.Server{Addr: ":" + env("HTTP_PORT", "8080"), Handler: handler(), ReadHeaderTimeout: 10 * time.Second}
	if every, err := time.ParseDuration(os.Getenv("CHATTER")); err == nil {
		go chatter(ctx, every)
	}
	failed := make(chan error, 3)
	go func() { failed <- server.ListenAndServe() }()
	go func() { failed <- echoTCP(lines) }()
	go func() { failed <- echoUDP(packets) }()
	slog.Info("serving", "pod", podName(), "http", server.Addr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Who still has our address is served for a moment longer.
	server.SetKeepAlivesEnabled(false)
	time.Sleep(time.Second)
	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(bounded)
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, podName()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if ill.Load() {
			http.Error(w, "ill", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /ill", func(http.ResponseWriter, *http.Request) { ill.Store(true) })
	mux.HandleFunc("GET /well", func(http.ResponseWriter, *http.Request) { ill.Store(false) })
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) { exit(r.FormValue("code")) })
	mux.HandleFunc("GET /eat", eat)
	mux.HandleFunc("GET /cat", told(func(_ context.Context, q url.Values) ([]byte, error) { return os.ReadFile(q.Get("path")) }))
	mux.HandleFunc("GET /dial", told(func(ctx context.Context, q url.Values) ([]byte, error) { return dial(ctx, q.Get("url")) }))
	mux.HandleFunc("GET /lookup", told(func(ctx context.Context, q url.Values) ([]byte, error) {
		found, err := net.DefaultResolver.LookupHost(ctx, q.Get("name"))
		return []byte(strings.Join(found, "\n") + "\n"), err
	}))
	return mux
}

// told answers with what f returns, or with 502 and its error.
func told(f func(context.Context, url.Values) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
		defer cancel()
		data, err := f(ctx, r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write(data)
	}
}

func get(target string) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	data, err := dial(ctx, target)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(data)
}

func chatter(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		fmt.Println("line", n)
		<-ticker.C
	}
}

func dial(ctx context.Context, target string) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http":
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return nil, err
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(io.LimitReader(res.Body, 1<<20))
	case "tcp", "udp":
		return sendLine(ctx, u.Scheme, u.Host)
	}
	return nil, errors.New("url must be http://, tcp:// or udp://")
}

func sendLine(ctx context.Context, network, address string) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if len(line) > 0 {
		err = nil
	}
	return line, err
}

func echoTCP(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for scan := bufio.NewScanner(conn); scan.Scan(); {
				if _, err := fmt.Fprintf(conn, "%s %s\n", podName(), scan.Text()); err != nil {
					return
				}
			}
		}()
	}
}

func echoUDP(conn net.PacketConn) error {
	packet := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		text := strings.TrimRight(string(packet[:n]), "\n")
		if _, err := conn.WriteTo(fmt.Appendf(nil, "%s %s\n", podName(), text), from); err != nil {
			slog.Warn("packet not answered", "to", from.String(), "error", err)
		}
	}
}

func eat(w http.ResponseWriter, r *http.Request) {
	mib, err := strconv.Atoi(r.FormValue("mib"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for range mib {
		chunk := make([]byte, 1<<20)
		for i := 0; i < len(chunk); i += 512 {
			chunk[i] = 1
		}
		mu.Lock()
		eaten = append(eaten, chunk)
		mu.Unlock()
	}
	fmt.Fprintln(w, "eaten")
}

func exit(code string) {
	n, err := strconv.Atoi(code)
	if err != nil {
		n = 1
	}
	slog.Info("exiting", "code", n)
	os.Exit(n)
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func podName() string {
	host, _ := os.Hostname()
	return env("POD_NAME", host)
}
