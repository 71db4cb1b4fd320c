package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/vishvananda/netns"

	"github.com/evenkeel/evenkeel/proxy/thread"
)

// answerWithin bounds one request.
const answerWithin = 5 * time.Second

// dial opens a connection from a namespace.
func dial(ctx context.Context, ns netns.NsHandle, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := thread.In(ns, func() (err error) {
		conn, err = (&net.Dialer{Timeout: answerWithin}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// client makes requests from a namespace, each on a connection of its own.
func client(ns netns.NsHandle) *http.Client {
	return &http.Client{Timeout: answerWithin, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dial(ctx, ns, network, addr)
		},
	}}
}

// get asks from a namespace. An answer other than 200 is an error.
func get(ns netns.NsHandle, target string) (string, error) {
	res, err := client(ns).Get(target)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", target, res.Status, body)
	}
	return string(body), err
}

// ask sends a line to an echo pod and returns the answer.
func ask(ns netns.NsHandle, network, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	conn, err := dial(ctx, ns, network, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerWithin))
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// from has an echo pod, reached from a namespace, ask in its turn.
func from(ns netns.NsHandle, pod, question, key, value string) (string, error) {
	return get(ns, fmt.Sprintf("http://%s:8080/%s?%s=%s", pod, question, key, url.QueryEscape(value)))
}

// traffic is a steady stream of requests, each on a connection of its own.
type traffic struct {
	mu       sync.Mutex
	requests int
	failures []error
	stop     context.CancelFunc
	done     chan struct{}
}

// startTraffic asks the targets in turn, so often a second.
func (w *world) startTraffic(ns netns.NsHandle, perSecond int, targets ...string) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	tr := &traffic{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(tr.done)
		ticker := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticker.Stop()
		var wg sync.WaitGroup
		defer wg.Wait()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			wg.Go(func() { tr.ask(ns, targets[i%len(targets)]) })
		}
	}()
	w.t.Cleanup(func() { _, _ = tr.end() })
	return tr
}

func (tr *traffic) ask(ns netns.NsHandle, target string) {
	began := time.Now()
	_, err := get(ns, target)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.requests++
	if err != nil {
		tr.failures = append(tr.failures, fmt.Errorf("%s after %v: %w", began.Format("15:04:05.000"), time.Since(began), err))
	}
}

// sent is how many requests were answered or failed so far.
func (tr *traffic) sent() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.requests
}

// end stops the stream and returns how many requests there were, and all that
// failed.
func (tr *traffic) end() (int, error) {
	tr.stop()
	<-tr.done
	return tr.requests, errors.Join(tr.failures...)
}
