package feed

import (
	"context"
	"errors"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/apiserver/failure"
	"github.com/evenkeel/evenkeel/schema/apiserver/scheme"
)

// bookmarkEvery is how often a watcher that wants bookmarks gets one.
const bookmarkEvery = time.Minute

// lastBookmark is how long before a watch's time is up it gets another one, so
// that the next one begins where this one ends.
const lastBookmark = 2 * time.Second

// errDone ends a watcher without a word: its history is over, and the client
// comes back for more.
var errDone = errors.New("watch is over")

// watcher is one client's watch. It implements watch.Interface.
type watcher struct {
	kind      *schema.Kind
	filter    Filter
	bookmarks bool
	out       chan watch.Event
	stop      context.CancelFunc
	revision  int64 // of the last event that was looked at
}

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.out }

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.stop() }

// send delivers an event, or reports that the watch is over.
func (w *watcher) send(ctx context.Context, e watch.Event) bool {
	select {
	case w.out <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// run sends the initial objects and then what happens. It closes the channel.
func (w *watcher) run(ctx context.Context, h *history, initial []schema.Object, endInitial bool) {
	defer close(w.out)
	for _, obj := range initial {
		if w.filter.Matches(obj) && !w.send(ctx, watch.Event{Type: watch.Added, Object: scheme.Shallow(obj)}) {
			return
		}
	}
	if endInitial && !w.send(ctx, w.bookmark(w.revision, true)) {
		return
	}
	err := w.follow(ctx, h)
	if err != nil && !errors.Is(err, errBehind) && !errors.Is(err, errDone) {
		w.send(ctx, watch.Event{Type: watch.Error, Object: failure.Status(err)})
	}
}

// follow sends events until the watch or the history is over.
func (w *watcher) follow(ctx context.Context, h *history) error {
	number, err := h.after(w.revision)
	if err != nil {
		return err
	}
	due := w.timer(ctx)
	defer due.Stop()
	for {
		events, moved, err := h.next(number)
		if len(events) > 0 {
			if !w.sendAll(ctx, events) {
				return nil
			}
			number += int64(len(events))
			continue
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		case <-due.C:
			if at, quiet := h.quiet(number); quiet && !w.send(ctx, w.bookmark(max(at, w.revision), false)) {
				return nil
			}
			due.Reset(w.untilBookmark(ctx))
		}
	}
}

func (w *watcher) sendAll(ctx context.Context, events []*event) bool {
	for _, e := range events {
		if seen, ok := e.seen(w.filter); ok && !w.send(ctx, seen) {
			return false
		}
		w.revision = e.revision
	}
	return true
}

// bookmark tells a client up to which revision it has seen everything.
func (w *watcher) bookmark(revision int64, endInitial bool) watch.Event {
	obj := w.kind.New()
	obj.SetResourceVersion(strconv.FormatInt(revision, 10))
	if endInitial {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return watch.Event{Type: watch.Bookmark, Object: obj}
}

// timer says when a bookmark is due: never for those who want none.
func (w *watcher) timer(ctx context.Context) *time.Timer {
	if w.bookmarks {
		return time.NewTimer(w.untilBookmark(ctx))
	}
	never := time.NewTimer(time.Hour)
	never.Stop()
	return never
}

func (w *watcher) untilBookmark(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if left := time.Until(deadline) - lastBookmark; ok && left > 0 && left < bookmarkEvery {
		return left
	}
	return bookmarkEvery
}
