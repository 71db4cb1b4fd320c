// Command guestbook is the example that Evenkeel runs: a page to leave a line
// on (guestbook web), and the store behind it (guestbook store).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// drainTime is how long requests still come in after SIGTERM, until the last
// proxy has heard that this pod is going; stopTime bounds the whole end.
const (
	drainTime = 2 * time.Second
	stopTime  = 10 * time.Second
)

func main() {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guestbook:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: guestbook web | guestbook store")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var draining atomic.Bool
	switch args[0] {
	case "web":
		return serve(ctx, ":"+env("PORT", "8080"), newWeb(&draining), &draining)
	case "store":
		s, err := openStore(env("DATA", "/data") + "/entries.jsonl")
		if err != nil {
			return err
		}
		return errors.Join(serve(ctx, ":"+env("PORT", "6380"), s.handler(&draining), &draining), s.close())
	}
	return fmt.Errorf("unknown role %q: web or store", args[0])
}

// serve answers until ctx ends, then goes on a while as not ready, and
// finishes what it has begun.
func serve(ctx context.Context, address string, handler http.Handler, draining *atomic.Bool) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	slog.Info("serving", "address", listener.Addr().String(), "pod", podName())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("draining")
	draining.Store(true)
	server.SetKeepAlivesEnabled(false)
	time.Sleep(drainTime)
	bounded, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return err
	}
	slog.Info("stopped")
	return nil
}

func healthz(draining *atomic.Bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
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
