package feed

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// start runs a hub over a store in a bubble; what it returns ends it.
func start(t *testing.T, store *memory.Store) (*Hub, *registry.Registries, func()) {
	t.Helper()
	regs := registry.New(store, registry.Config{})
	mirror := registry.NewMirror(registry.MirrorConfig{Store: store})
	hub := New(Config{Registries: regs, Mirror: mirror, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	go mirror.Run(ctx)
	go hub.Run(ctx)
	<-hub.Ready()
	return hub, regs, func() { cancel(); synctest.Wait() }
}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func drain(w watch.Interface) (events []string, open bool) {
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				return events, false
			}
			events = append(events, fmt.Sprintf("%s %s", e.Type, e.Object.(metav1.Object).GetName()))
		default:
			synctest.Wait()
			select {
			case e, ok := <-w.ResultChan():
				if !ok {
					return events, false
				}
				events = append(events, fmt.Sprintf("%s %s", e.Type, e.Object.(metav1.Object).GetName()))
			default:
				return events, true
			}
		}
	}
}

// TestSlowWatcher is closed when the history has gone on without it, and holds
// up nobody.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, regs, stop := start(t, memory.New())
		defer stop()
		slow, err := hub.Watch(t.Context(), Request{Kind: schema.Namespaces})
		if err != nil {
			t.Fatal(err)
		}
		quick, err := hub.Watch(t.Context(), Request{Kind: schema.Namespaces})
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for i := range 2 * keepRecent {
			if _, err := regs.Create(t.Context(), namespace(fmt.Sprintf("n%d", i), nil)); err != nil {
				t.Fatal(err)
			}
			<-time.After(20 * time.Millisecond) // of the bubble
			events, open := drain(quick)
			if seen += len(events); !open {
				t.Fatalf("the quick watcher was closed after %d events", seen)
			}
		}
		if seen != 2*keepRecent {
			t.Errorf("the quick watcher saw %d events", seen)
		}
		if events, open := drain(slow); open || len(events) >= keepRecent {
			t.Errorf("the slow watcher is open: %v, after %d events", open, len(events))
		}
	})
}

// TestBookmarks come every minute, and say up to where all has been seen.
func TestBookmarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, regs, stop := start(t, memory.New())
		defer stop()
		w, err := hub.Watch(t.Context(), Request{Kind: schema.Namespaces, Bookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the watcher waits for an event that does not come
		if _, err := regs.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}); err != nil {
			t.Fatal(err)
		}
		<-time.After(bookmarkEvery + time.Second)
		e := <-w.ResultChan()
		if rv := e.Object.(metav1.Object).GetResourceVersion(); e.Type != watch.Bookmark || rv != "2" {
			t.Errorf("%s at %s", e.Type, rv)
		}
	})
}

// TestWatchAgreesWithList: whatever happens, and wherever a watcher begins, the
// objects that it was told of are in the end those that are there.
func TestWatchAgreesWithList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			hub, regs, stop := start(t, store)
			defer stop()
			selector, _ := labels.Parse("on=yes")
			filters := []Filter{{}, {Labels: selector}}
			type view struct {
				watch.Interface
				filter Filter
				has    map[string]bool
			}
			var views []*view
			begin := func(from int64) {
				for _, f := range filters {
					if from != 0 && f.Labels != nil {
						continue // it would have to know what matched then
					}
					w, err := hub.Watch(context.Background(), Request{Kind: schema.Namespaces, Filter: f, From: from})
					if err != nil {
						rt.Fatal(err)
					}
					views = append(views, &view{w, f, map[string]bool{}})
				}
			}
			begin(0)
			begin(1)
			for range rapid.IntRange(1, 30).Draw(rt, "steps") {
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name")
				on := map[string]string{"on": rapid.SampledFrom([]string{"yes", "no"}).Draw(rt, "on")}
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					_, _ = regs.Create(t.Context(), namespace(name, on))
				case 1:
					_, _ = regs.Update(t.Context(), namespace(name, on))
				case 2:
					_, _ = regs.Delete(t.Context(), registry.Deletion{Key: schema.Namespaces.Key("", name), Finalize: true})
				case 3:
					begin(0)
				}
				synctest.Wait()
			}
			for i, v := range views {
				for more := true; more; {
					select {
					case e := <-v.ResultChan():
						name := e.Object.(metav1.Object).GetName()
						if known := v.has[name]; known != (e.Type != watch.Added) {
							rt.Fatalf("view %d: %s of %s, known: %v", i, e.Type, name, known)
						}
						if v.has[name] = true; e.Type == watch.Deleted {
							delete(v.has, name)
						}
						synctest.Wait()
					default:
						more = false
					}
				}
				objs, _, err := regs.List(t.Context(), schema.Namespaces, "")
				if err != nil {
					rt.Fatal(err)
				}
				want := 0
				for _, obj := range objs {
					if v.filter.Matches(obj) {
						want++
						if !v.has[obj.GetName()] {
							rt.Fatalf("view %d does not know %s", i, obj.GetName())
						}
					}
				}
				if want != len(v.has) {
					rt.Fatalf("view %d knows %v, there are %d", i, v.has, want)
				}
			}
		})
	})
}
