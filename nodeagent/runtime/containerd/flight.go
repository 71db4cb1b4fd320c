package containerd

import (
	"context"
	"sync"
)

// flight joins calls for one key that are under way at once. The work goes on
// while at least one caller waits for it; the zero value is ready.
type flight[T any] struct {
	mu    sync.Mutex
	calls map[string]*call[T]
}

type call[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	value   T
	err     error
}

// Do runs work once for all callers of a key. wait counts the goroutine it
// may leave behind when every caller has gone before the work noticed.
func (f *flight[T]) Do(ctx context.Context, wait *sync.WaitGroup, key string, work func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	c := f.calls[key]
	if c == nil {
		c = f.startLocked(ctx, wait, key, work)
	}
	c.waiters++
	f.mu.Unlock()

	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		f.leave(key, c)
		var none T
		return none, context.Cause(ctx)
	}
}

func (f *flight[T]) startLocked(ctx context.Context, wait *sync.WaitGroup, key string, work func(context.Context) (T, error)) *call[T] {
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call[T]{done: make(chan struct{}), cancel: cancel}
	if f.calls == nil {
		f.calls = map[string]*call[T]{}
	}
	f.calls[key] = c
	wait.Go(func() {
		defer cancel()
		c.value, c.err = work(shared)
		f.forget(key, c)
		close(c.done)
	})
	return c
}

// leave ends the work when nobody waits for it any more.
func (f *flight[T]) leave(key string, c *call[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.waiters--
	if c.waiters == 0 {
		c.cancel()
		if f.calls[key] == c {
			delete(f.calls, key)
		}
	}
}

func (f *flight[T]) forget(key string, c *call[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[key] == c {
		delete(f.calls, key)
	}
}
