package apiserver

import (
	"context"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// longRequests are the requests that have no end of their own: a watch, a log
// that is followed, a shell.
type longRequests struct {
	mu      sync.Mutex
	ended   bool
	next    int
	cancels map[int]context.CancelFunc
}

// begin returns a context that ends with the server, and what to call when the
// request is over.
func (l *longRequests) begin(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		cancel()
		return ctx, cancel
	}
	if l.cancels == nil {
		l.cancels = map[int]context.CancelFunc{}
	}
	l.next++
	id := l.next
	l.cancels[id] = cancel
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.cancels, id)
	}
}

// end ends all requests, and those that are still to come.
func (l *longRequests) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, cancel := range l.cancels {
		cancel()
	}
}

// filter gives long requests a context that ends with the server.
func (l *longRequests) filter(next http.Handler, isLong request.LongRunningRequestCheck) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, ok := request.RequestInfoFrom(req.Context())
		if !ok || !isLong(req, info) {
			next.ServeHTTP(w, req)
			return
		}
		ctx, done := l.begin(req.Context())
		defer done()
		next.ServeHTTP(w, req.WithContext(ctx))
	})
}
