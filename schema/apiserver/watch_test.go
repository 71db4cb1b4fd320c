package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// next returns the next event of a watch; bookmarks are passed over unless
// they are asked for.
func next(t *testing.T, w watch.Interface, bookmarks bool) watch.Event {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatal("the watch ended")
			}
			if e.Type != watch.Bookmark || bookmarks {
				return e
			}
		case <-timeout.C:
			t.Fatal("no event")
		}
	}
}

func describe(e watch.Event) string {
	if status, ok := e.Object.(*metav1.Status); ok {
		return fmt.Sprintf("%s %d %s", e.Type, status.Code, status.Reason)
	}
	return fmt.Sprintf("%s %s", e.Type, e.Object.(metav1.Object).GetName())
}

func wantEvents(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for _, text := range want {
		if got := describe(next(t, w, false)); got != text {
			t.Errorf("event %q, want %q", got, text)
		}
	}
}

// TestWatchFrom begins watches in all the ways that there are.
func TestWatchFrom(t *testing.T) {
	store := memory.New()
	w := inMemoryOver(t, store)
	cms := w.kube.CoreV1().ConfigMaps("default")
	a, err := cms.Create(t.Context(), configMap("a", nil), metav1.CreateOptions{})
	w.must(a, err)
	b, err := cms.Create(t.Context(), configMap("b", nil), metav1.CreateOptions{})
	w.must(b, err)
	watchWith := func(opts metav1.ListOptions) watch.Interface {
		t.Helper()
		watching, err := cms.Watch(t.Context(), opts)
		w.must(watching, err)
		t.Cleanup(watching.Stop)
		return watching
	}
	yes, no := true, false
	fromA := watchWith(metav1.ListOptions{ResourceVersion: a.ResourceVersion})
	latest := watchWith(metav1.ListOptions{})
	anything := watchWith(metav1.ListOptions{ResourceVersion: "0"})
	silent := watchWith(metav1.ListOptions{SendInitialEvents: &no, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	listing := watchWith(metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	named := watchWith(metav1.ListOptions{FieldSelector: "metadata.name=b"})
	labelled := watchWith(metav1.ListOptions{LabelSelector: "seen=yes"})

	wantEvents(t, fromA, "ADDED b")
	wantEvents(t, latest, "ADDED a", "ADDED b")
	wantEvents(t, anything, "ADDED a", "ADDED b")
	wantEvents(t, listing, "ADDED a", "ADDED b")
	mark := next(t, listing, true)
	if mark.Type != watch.Bookmark || mark.Object.(*corev1.ConfigMap).Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("after the initial events: %v", mark)
	}
	wantEvents(t, named, "ADDED b")

	label := func(value string) {
		t.Helper()
		patch := fmt.Sprintf(`{"metadata":{"labels":{"seen":%q}}}`, value)
		w.must(cms.Patch(t.Context(), "a", types.MergePatchType, []byte(patch), metav1.PatchOptions{}))
	}
	label("yes")
	label("no")
	w.must(nil, cms.Delete(t.Context(), "b", metav1.DeleteOptions{}))
	wantEvents(t, labelled, "ADDED a", "DELETED a")
	wantEvents(t, named, "DELETED b")
	for _, all := range []watch.Interface{fromA, latest, anything, silent, listing} {
		wantEvents(t, all, "MODIFIED a", "MODIFIED a", "DELETED b")
	}
	// What came before the server's own history comes from the store, and what
	// the store has forgotten is gone.
	w.stop()
	again := serve(t, store)
	late, err := again.kube.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: a.ResourceVersion})
	w.must(late, err)
	wantEvents(t, late, "ADDED b", "MODIFIED a", "MODIFIED a", "DELETED b")
	late.Stop()
	at, _ := strconv.ParseInt(b.ResourceVersion, 10, 64)
	store.Compact(at + 1)
	// From before the last watch: what that was sent may be here until the server
	// has noticed that nobody reads it.
	first, _ := strconv.ParseInt(a.ResourceVersion, 10, 64)
	expired, err := again.kube.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: strconv.FormatInt(first-1, 10)})
	w.must(expired, err)
	wantEvents(t, expired, "ERROR 410 Expired")
}

// TestPages lists in pages as of one revision, and beyond its compaction.
func TestPages(t *testing.T) {
	store := memory.New()
	w := inMemoryOver(t, store)
	cms := w.kube.CoreV1().ConfigMaps("default")
	for i := range 10 {
		w.must(cms.Create(t.Context(), configMap(fmt.Sprintf("m%d", i), map[string]string{"n": strconv.Itoa(i)}), metav1.CreateOptions{}))
	}
	page, err := cms.List(t.Context(), metav1.ListOptions{Limit: 4})
	w.must(page, err)
	if len(page.Items) != 4 || page.RemainingItemCount == nil || *page.RemainingItemCount != 6 || page.Continue == "" {
		t.Fatalf("first page: %d items, %v remain, token %q", len(page.Items), page.RemainingItemCount, page.Continue)
	}
	w.must(nil, cms.Delete(t.Context(), "m9", metav1.DeleteOptions{}))
	second, err := cms.List(t.Context(), metav1.ListOptions{Limit: 4, Continue: page.Continue})
	w.must(second, err)
	third, err := cms.List(t.Context(), metav1.ListOptions{Limit: 4, Continue: second.Continue})
	w.must(third, err)
	if len(second.Items) != 4 || len(third.Items) != 2 || third.Items[1].Name != "m9" || third.Continue != "" || third.ResourceVersion != page.ResourceVersion {
		t.Errorf("pages of %d and %d, at %s and %s", len(second.Items), len(third.Items), page.ResourceVersion, third.ResourceVersion)
	}
	latest, err := cms.List(t.Context(), metav1.ListOptions{})
	w.must(latest, err)
	exact, err := cms.List(t.Context(), metav1.ListOptions{ResourceVersion: page.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	w.must(exact, err)
	if len(latest.Items) != 9 || len(exact.Items) != 10 {
		t.Errorf("now %d, then %d", len(latest.Items), len(exact.Items))
	}
	at, _ := strconv.ParseInt(latest.ResourceVersion, 10, 64)
	store.Compact(at)
	_, err = cms.List(t.Context(), metav1.ListOptions{Limit: 4, Continue: page.Continue})
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) || status.Status().ListMeta.Continue == "" {
		t.Fatalf("page of a compacted revision: %v", err)
	}
	rest, err := cms.List(t.Context(), metav1.ListOptions{Limit: 4, Continue: status.Status().ListMeta.Continue})
	w.must(rest, err)
	if len(rest.Items) != 4 || rest.Items[0].Name != "m4" {
		t.Errorf("the rest: %d from %s", len(rest.Items), rest.Items[0].Name)
	}
}

// TestWriters has many add to one object at once: whatever was accepted is
// there.
func TestWriters(t *testing.T) {
	w := inMemory(t)
	cms := w.kube.CoreV1().ConfigMaps("default")
	w.must(cms.Create(t.Context(), configMap("shared", nil), metav1.CreateOptions{}))
	var wg sync.WaitGroup
	accepted := make([]bool, 100)
	for i := range accepted {
		wg.Go(func() {
			patch := fmt.Sprintf(`{"data":{"k%d":"v"}}`, i)
			_, err := cms.Patch(t.Context(), "shared", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			accepted[i] = err == nil
		})
	}
	wg.Wait()
	got, err := cms.Get(t.Context(), "shared", metav1.GetOptions{})
	w.must(got, err)
	for i, ok := range accepted {
		if _, there := got.Data[fmt.Sprintf("k%d", i)]; there != ok || !ok {
			t.Errorf("writer %d: accepted %v, there %v", i, ok, there)
		}
	}
}

// TestWatchers has many watch the same: all see the same order, and miss
// nothing while the server is started anew.
func TestWatchers(t *testing.T) {
	const watchers, before, after = 1000, 20, 20
	store := memory.New()
	w := inMemoryOver(t, store)
	start, err := w.kube.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	w.must(start, err)
	seen := make([][]string, watchers)
	last := make([]string, watchers)
	follow := func(w *world, n int, from func(i int) string) {
		t.Helper()
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		begin := make(chan struct{}, 20) // at once: HTTP/2 gives a connection two seconds to begin
		for i := range watchers {
			wg.Go(func() {
				begin <- struct{}{}
				watching, err := w.kube.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: from(i)})
				<-begin
				if err != nil {
					t.Errorf("watcher %d: %v", i, err)
					return
				}
				defer watching.Stop()
				for e := range watching.ResultChan() {
					cm, ok := e.Object.(*corev1.ConfigMap)
					if !ok {
						t.Errorf("watcher %d: %v", i, e)
						return
					}
					seen[i], last[i] = append(seen[i], cm.Name+"@"+cm.ResourceVersion), cm.ResourceVersion
					if len(seen[i]) == n {
						return
					}
				}
				t.Errorf("watcher %d ended after %d events", i, len(seen[i]))
			})
		}
		wg.Wait()
	}
	write := func(from, n int) {
		for i := range n {
			w.must(w.regs.Create(t.Context(), configMap(fmt.Sprintf("m%d", from+i), nil)))
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { write(0, before) })
	follow(w, before, func(int) string { return start.ResourceVersion })
	wg.Wait()
	w.stop()
	write(before, after/2) // while there is no server
	again := serve(t, store)
	wg.Go(func() { write(before+after/2, after/2) })
	follow(again, before+after, func(i int) string { return last[i] })
	wg.Wait()
	for i := range seen {
		if !slices.Equal(seen[i], seen[0]) || len(seen[i]) != before+after {
			t.Fatalf("watcher %d saw %v, watcher 0 %v", i, seen[i], seen[0])
		}
	}
}

// TestInformers keeps informers up, of JSON and of protobuf, while the server
// is started anew and the store forgets.
func TestInformers(t *testing.T) {
	for _, contentType := range []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf} {
		t.Run(contentType, func(t *testing.T) {
			store := memory.New()
			w := inMemoryOver(t, store)
			listenAgain := w.addr
			config := rest.CopyConfig(w.config)
			config.ContentType = contentType
			config.TLSClientConfig = rest.TLSClientConfig{Insecure: true}
			factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
			lister := factory.Core().V1().ConfigMaps().Lister().ConfigMaps("default")
			factory.Core().V1().ConfigMaps().Informer()
			ctx, cancel := context.WithCancel(t.Context())
			factory.StartWithContext(ctx)
			defer factory.Shutdown()
			defer cancel()
			factory.WaitForCacheSync(ctx.Done())
			await := func(name string, there bool) {
				t.Helper()
				eventually(t, func() bool {
					_, err := lister.Get(name)
					return (err == nil) == there
				})
			}
			w.must(w.regs.Create(t.Context(), configMap("a", nil)))
			await("a", true)
			w.stop()
			w.must(w.regs.Create(t.Context(), configMap("b", nil)))
			deleted, err := w.regs.Create(t.Context(), configMap("c", nil))
			w.must(deleted, err)
			w.must(w.regs.Delete(t.Context(), deletionOf(configMap("a", nil))))
			_, now, err := w.regs.List(t.Context(), schema.ConfigMaps, "")
			w.must(now, err)
			store.Compact(now)
			serveAt(t, store, listenAgain)
			await("b", true)
			await("a", false)
			w.must(w.regs.Create(t.Context(), configMap("d", nil)))
			await("d", true)
		})
	}
}
