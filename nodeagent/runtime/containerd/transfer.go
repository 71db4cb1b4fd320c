package containerd

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

// stallTime is how long a registry may send nothing before a pull is given up
// and tried again later.
const stallTime = time.Minute

// transfers are the pulls under way, each shared by all that wait for it. The
// zero value is ready.
type transfers struct {
	mu  sync.Mutex
	all map[string]*transfer
}

// transfer is how far one pull is.
type transfer struct {
	mu        sync.Mutex
	now       rt.Progress
	listeners map[int]func(rt.Progress)
	joined    int
}

// join returns a pull's transfer. Until leave is called, listen hears of it.
func (t *transfers) join(key string, listen func(rt.Progress)) (shared *transfer, leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*transfer{}
	}
	shared = t.all[key]
	if shared == nil {
		shared = &transfer{listeners: map[int]func(rt.Progress){}}
		t.all[key] = shared
	}
	id := shared.listen(listen)
	return shared, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if shared.unlisten(id) == 0 && t.all[key] == shared {
			delete(t.all, key)
		}
	}
}

func (t *transfer) listen(to func(rt.Progress)) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.joined++
	if to == nil {
		to = func(rt.Progress) {}
	}
	t.listeners[t.joined] = to
	to(t.now)
	return t.joined
}

func (t *transfer) unlisten(id int) (left int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, id)
	return len(t.listeners)
}

func (t *transfer) change(f func(*rt.Progress)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.now)
	for _, to := range t.listeners {
		to(t.now)
	}
}

// queue begins a pull anew.
func (t *transfer) queue(waits bool) {
	t.change(func(p *rt.Progress) { *p = rt.Progress{Queued: waits} })
}

func (t *transfer) finish() { t.change(func(p *rt.Progress) { p.Done = p.Total }) }

func (t *transfer) add(n int64) {
	t.change(func(p *rt.Progress) { p.Done = min(max(p.Done+n, 0), p.Total) })
}

// expect takes in, from each manifest that is met, how much is to come and how
// much of it is there.
func (t *transfer) expect(store content.Store, h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		if err != nil || !images.IsManifestType(desc.MediaType) {
			return children, err
		}
		var total, here int64
		for _, child := range children {
			total += child.Size
			if _, err := store.Info(ctx, child.Digest); err == nil {
				here += child.Size
			}
		}
		t.change(func(p *rt.Progress) { p.Total, p.Done = p.Total+total, p.Done+here })
		return children, nil
	})
}

type meteredFetcher struct {
	remotes.Fetcher
	transfer *transfer
	stop     context.CancelCauseFunc
}

func (f meteredFetcher) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	body, err := f.Fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	m := &meter{ReadCloser: body, alarm: time.AfterFunc(stallTime, func() { f.stop(errStalled) })}
	m.alarm.Stop()
	if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		m.transfer = f.transfer
	}
	return m, nil
}

// meter counts what is read, and gives a read that brings nothing up.
type meter struct {
	io.ReadCloser
	transfer *transfer // nil for what is not counted
	alarm    *time.Timer
	at       int64
}

func (m *meter) Read(p []byte) (int, error) {
	m.alarm.Reset(stallTime)
	n, err := m.ReadCloser.Read(p)
	m.alarm.Stop()
	m.moved(m.at + int64(n))
	return n, err
}

// Seek is how a transfer goes on where an earlier one broke off.
func (m *meter) Seek(offset int64, whence int) (int64, error) {
	seeker, ok := m.ReadCloser.(io.Seeker)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	at, err := seeker.Seek(offset, whence)
	if err == nil {
		m.moved(at)
	}
	return at, err
}

func (m *meter) moved(to int64) {
	if m.transfer != nil && to != m.at {
		m.transfer.add(to - m.at)
	}
	m.at = to
}
