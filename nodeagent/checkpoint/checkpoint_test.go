package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

const (
	bindings = "/registry/bindings/n1/"
	statuses = "/registry/podstatus/n1/"
)

// flaky is a store that can be away.
type flaky struct {
	registry.Store
	away atomic.Bool
}

func (f *flaky) gone(op string) error {
	if f.away.Load() {
		return fmt.Errorf("%s: %w", op, registry.ErrUnavailable)
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, key string) (registry.KV, error) {
	if err := f.gone("get"); err != nil {
		return registry.KV{}, err
	}
	return f.Store.Get(ctx, key)
}

func (f *flaky) List(ctx context.Context, prefix string, revision int64) ([]registry.KV, int64, error) {
	if err := f.gone("list"); err != nil {
		return nil, 0, err
	}
	return f.Store.List(ctx, prefix, revision)
}

func (f *flaky) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if err := f.gone("commit"); err != nil {
		return 0, err
	}
	return f.Store.Commit(ctx, txn)
}

func (f *flaky) Watch(ctx context.Context, prefix string, from int64, emit func(registry.Batch) error) error {
	if err := f.gone("watch"); err != nil {
		return err
	}
	return f.Store.Watch(ctx, prefix, from, emit)
}

// agent is what a node agent does with the store.
type agent struct {
	store  *Store
	mirror *registry.Mirror
	stop   func()
}

func start(t *testing.T, dir string, store registry.Store) *agent {
	t.Helper()
	swap := func(from, to string) func(string) string {
		return func(key string) string {
			if name, ok := strings.CutPrefix(key, from); ok {
				return to + name
			}
			return ""
		}
	}
	s, err := Open(Config{
		Store: store, Dir: dir, Bindings: bindings, Mark: bindings + "node", Statuses: statuses, Logger: slog.New(slog.DiscardHandler),
		StatusOf: swap(bindings+"pods/", statuses), BindingOf: swap(statuses, bindings+"pods/"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &agent{store: s, mirror: registry.NewMirror(registry.MirrorConfig{Store: s, Prefixes: []string{bindings}})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.mirror.Run(ctx) })
	wg.Go(func() { _ = s.Run(ctx) })
	a.stop = func() { cancel(); wg.Wait() }
	return a
}

func (a *agent) bound() map[string]string {
	out := map[string]string{}
	for _, kv := range a.mirror.Raw(bindings) {
		out[strings.TrimPrefix(kv.Key, bindings)] = string(kv.Value)
	}
	return out
}

func (a *agent) say(t *testing.T, name, status string) error {
	t.Helper()
	_, err := a.store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(statuses+name, []byte(status))}})
	return err
}

func write(t *testing.T, s registry.Store, ops ...registry.Op) {
	t.Helper()
	if _, err := s.Commit(t.Context(), registry.Txn{Ops: ops}); err != nil {
		t.Fatal(err)
	}
}

func bind(name, value string) registry.Op { return registry.Put(bindings+"pods/"+name, []byte(value)) }

func read(t *testing.T, s registry.Store, prefix string) map[string]string {
	t.Helper()
	kvs, _, err := s.List(t.Context(), prefix, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, kv := range kvs {
		out[strings.TrimPrefix(kv.Key, prefix)] = string(kv.Value)
	}
	return out
}

// An agent that starts while the store is away has the bindings that it last
// saw, and those of the store as soon as it is back.
func TestStartWithoutStore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: memory.New()}
		write(t, store, registry.Put(bindings+"node", nil), bind("a/one", "1"), bind("a/two", "2"))
		first := start(t, dir, store)
		synctest.Wait()
		write(t, store, bind("a/two", "2b"), bind("a/three", "3"), registry.Delete(bindings+"pods/a/one"))
		synctest.Wait()
		first.stop()

		store.away.Store(true)
		second := start(t, dir, store)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff(map[string]string{"node": "", "pods/a/two": "2b", "pods/a/three": "3"}, second.bound()); diff != "" {
			t.Errorf("without the store (-want +got):\n%s", diff)
		}

		write(t, store.Store, bind("a/four", "4"), registry.Delete(bindings+"pods/a/two"))
		store.away.Store(false)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff(map[string]string{"node": "", "pods/a/three": "3", "pods/a/four": "4"}, second.bound()); diff != "" {
			t.Errorf("with the store back (-want +got):\n%s", diff)
		}
		second.stop()
	})
}

// Without a checkpoint nothing is made up: the mirror goes on waiting.
func TestNothingNoted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: memory.New()}
		store.away.Store(true)
		a := start(t, dir, store)
		<-time.After(time.Minute)
		select {
		case <-a.mirror.Synced():
			t.Error("synced without having read anything")
		default:
		}
		a.stop()
	})
}

// A list without the mark is not taken for the bindings: the store was emptied.
func TestListWithoutMark(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		full := &flaky{Store: memory.New()}
		write(t, full, registry.Put(bindings+"node", nil), bind("a/one", "1"))
		first := start(t, dir, full)
		synctest.Wait()
		first.stop()
		second := start(t, dir, &flaky{Store: memory.New()})
		synctest.Wait()
		second.stop()
		if noted, _ := second.store.bindings.read(); len(noted) != 2 {
			t.Errorf("%d keys noted, want the 2 of before", len(noted))
		}
	})
}

// What could not be said is kept, known to the next process, and sent when the
// store is back, unless something newer was said or the pod is gone.
func TestStatusesArriveLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: memory.New()}
		write(t, store, registry.Put(bindings+"node", nil), bind("a/one", "1"), bind("a/two", "2"), bind("a/three", "3"))
		first := start(t, dir, store)
		synctest.Wait()
		if err := first.say(t, "a/one", "ran"); err != nil {
			t.Fatal(err)
		}
		store.away.Store(true)
		for _, name := range []string{"a/one", "a/two", "a/three"} {
			if err := first.say(t, name, "restarted once"); err == nil {
				t.Fatal("no error from a store that is away")
			}
		}
		first.stop()

		second := start(t, dir, store)
		want := map[string]string{"a/one": "restarted once", "a/two": "restarted once", "a/three": "restarted once"}
		if diff := cmp.Diff(want, read(t, second.store, statuses)); diff != "" {
			t.Errorf("known to the next process (-want +got):\n%s", diff)
		}
		if err := second.say(t, "a/two", "restarted twice"); err == nil {
			t.Fatal("no error from a store that is away")
		}
		write(t, store.Store, registry.Delete(bindings+"pods/a/three"))
		store.away.Store(false)
		if err := second.say(t, "a/two", "restarted thrice"); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		want = map[string]string{"a/one": "restarted once", "a/two": "restarted thrice"}
		if diff := cmp.Diff(want, read(t, store.Store, statuses)); diff != "" {
			t.Errorf("in the store at last (-want +got):\n%s", diff)
		}
		second.stop()
		if left, _ := second.store.unsent.read(); len(left) != 0 {
			t.Errorf("still unsent: %v", slices.Collect(maps.Keys(left)))
		}
		if said, _ := second.store.said.read(); len(said) != 2 {
			t.Errorf("statuses noted: %v, want those of the two pods that are bound", slices.Collect(maps.Keys(said)))
		}
	})
}

// TestNotesFollow: what is gone from the store is gone from the disk, whether it
// went while the agent looked or while there was none, and its status with it;
// what the store refuses is not said again.
func TestNotesFollow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		write(t, store, registry.Put(bindings+"node", nil), bind("a/stays", "1"), bind("a/goes", "2"), bind("a/went", "3"))
		agent := start(t, dir, store)
		synctest.Wait()
		for _, name := range []string{"a/stays", "a/goes", "a/went"} {
			if err := agent.say(t, name, "runs"); err != nil {
				t.Fatal(err)
			}
		}
		refused := registry.Txn{
			Ops:    []registry.Op{registry.Put(statuses+"a/never", []byte("runs"))},
			Guards: []registry.Guard{{Key: bindings + "pods/a/never", Mod: registry.Present}},
		}
		if _, err := agent.store.Commit(t.Context(), refused); !errors.Is(err, registry.ErrConflict) {
			t.Fatalf("status of a pod that is not bound: %v", err)
		}
		noted := func(what string, f folder, want ...string) {
			t.Helper()
			values, err := f.read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(values))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		noted("not yet taken", agent.store.unsent)
		write(t, store, registry.Delete(bindings+"pods/a/goes"))
		synctest.Wait()
		noted("bindings as it looks", agent.store.bindings, bindings+"node", bindings+"pods/a/stays", bindings+"pods/a/went")
		noted("statuses as it looks", agent.store.said, statuses+"a/never", statuses+"a/stays", statuses+"a/went")
		agent.stop()
		write(t, store, registry.Delete(bindings+"pods/a/went"))
		agent = start(t, dir, store)
		synctest.Wait()
		noted("bindings after a while", agent.store.bindings, bindings+"node", bindings+"pods/a/stays")
		noted("statuses after a while", agent.store.said, statuses+"a/stays")
		agent.stop()
	})
}

// A file that a power cut left half written counts as never written.
func TestTornFile(t *testing.T) {
	f, err := openFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"whole", "torn", "empty"} {
		if err := f.put(key, []byte("value of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(f.path("torn"), 40); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f.path("empty"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(f), "x"+partial), pack("half", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	values, err := f.read()
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 1 || string(values["whole"]) != "value of whole" {
		t.Errorf("read %v, want the whole one alone", values)
	}
	if entries, _ := os.ReadDir(string(f)); len(entries) != 1 {
		t.Errorf("%d files left, want 1", len(entries))
	}
}
