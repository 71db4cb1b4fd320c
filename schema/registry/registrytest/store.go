// Package registrytest is the suite that every registry.Store passes, and the
// wrappers with which tests make a store fail.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// Harness is a store under test with the means to hurt it.
type Harness struct {
	Store   registry.Store
	Compact func(ctx context.Context, revision int64) error
}

// Run runs the suite. open returns a new, empty store; the suite does not
// close it.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	tests := map[string]func(*testing.T, Harness){
		"GetAndPut":          testGetAndPut,
		"Guards":             testGuards,
		"AllOrNothing":       testAllOrNothing,
		"ListAtRevision":     testListAtRevision,
		"ListIsPrefixOnly":   testListIsPrefixOnly,
		"Pages":              testPages,
		"GetAll":             testGetAll,
		"FutureRevision":     testFutureRevision,
		"WatchFrom":          testWatchFrom,
		"WatchWholeRevision": testWatchWholeRevision,
		"Compacted":          testCompacted,
		"Leases":             testLeases,
		"LeaseExpires":       testLeaseExpires,
		"Limits":             testLimits,
		"SameKeyTwice":       testSameKeyTwice,
		"ConcurrentWriters":  testConcurrentWriters,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func put(t *testing.T, s registry.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(key, []byte(value))}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func remove(t *testing.T, s registry.Store, key string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Delete(key)}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func testGetAndPut(t *testing.T, h Harness) {
	if _, err := h.Store.Get(t.Context(), "/a"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
	first := put(t, h.Store, "/a", "1")
	second := put(t, h.Store, "/a", "2")
	if second <= first {
		t.Errorf("revisions %d, %d do not rise", first, second)
	}
	got, err := h.Store.Get(t.Context(), "/a")
	if err != nil {
		t.Fatal(err)
	}
	want := registry.KV{Key: "/a", Value: []byte("2"), Create: first, Mod: second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
	remove(t, h.Store, "/a")
	if _, err := h.Store.Get(t.Context(), "/a"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("removed key: %v", err)
	}
}

func testGuards(t *testing.T, h Harness) {
	rev := put(t, h.Store, "/a", "1")
	cases := []struct {
		name  string
		guard registry.Guard
		ok    bool
	}{
		{"absent holds", registry.Guard{Key: "/b", Mod: registry.Absent}, true},
		{"absent fails", registry.Guard{Key: "/a", Mod: registry.Absent}, false},
		{"present holds", registry.Guard{Key: "/a", Mod: registry.Present}, true},
		{"present fails", registry.Guard{Key: "/b", Mod: registry.Present}, false},
		{"revision holds", registry.Guard{Key: "/a", Mod: rev}, true},
		{"revision fails", registry.Guard{Key: "/a", Mod: rev + 1000}, false},
	}
	for _, c := range cases {
		_, err := h.Store.Commit(t.Context(), registry.Txn{Guards: []registry.Guard{c.guard}, Ops: []registry.Op{registry.Put("/x", nil)}})
		if c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var conflict *registry.ConflictError
		if !c.ok && (!errors.As(err, &conflict) || conflict.Key != c.guard.Key) {
			t.Errorf("%s: %v, want a conflict at %s", c.name, err, c.guard.Key)
		}
	}
}

func testAllOrNothing(t *testing.T, h Harness) {
	txn := registry.Txn{
		Guards: []registry.Guard{{Key: "/no", Mod: registry.Present}},
		Ops:    []registry.Op{registry.Put("/a", []byte("1")), registry.Put("/b", []byte("1"))},
	}
	if _, err := h.Store.Commit(t.Context(), txn); !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("commit: %v", err)
	}
	kvs, _, err := h.Store.List(t.Context(), "/", 0)
	if err != nil || len(kvs) != 0 {
		t.Errorf("after a refused transaction: %v, %v", kvs, err)
	}
}

func testListAtRevision(t *testing.T, h Harness) {
	put(t, h.Store, "/p/a", "1")
	rev := put(t, h.Store, "/p/b", "1")
	put(t, h.Store, "/p/a", "2")
	remove(t, h.Store, "/p/b")
	put(t, h.Store, "/p/c", "1")
	kvs, at, err := h.Store.List(t.Context(), "/p/", rev)
	if err != nil || at != rev {
		t.Fatalf("list at %d: revision %d, %v", rev, at, err)
	}
	if diff := cmp.Diff(map[string]string{"/p/a": "1", "/p/b": "1"}, values(kvs)); diff != "" {
		t.Errorf("then (-want +got):\n%s", diff)
	}
	kvs, _, err = h.Store.List(t.Context(), "/p/", 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"/p/a": "2", "/p/c": "1"}, values(kvs)); diff != "" {
		t.Errorf("now (-want +got):\n%s", diff)
	}
}

func values(kvs []registry.KV) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		out[kv.Key] = string(kv.Value)
	}
	return out
}

func testListIsPrefixOnly(t *testing.T, h Harness) {
	for i := range 5 {
		put(t, h.Store, fmt.Sprintf("/p/%d", i), "")
	}
	put(t, h.Store, "/q/1", "")
	kvs, _, err := h.Store.List(t.Context(), "/p/", 0)
	if err != nil || len(kvs) != 5 || kvs[0].Key != "/p/0" || kvs[4].Key != "/p/4" {
		t.Errorf("list: %v, %v", kvs, err)
	}
}

var errEnough = errors.New("enough")

// collect watches until n changes have come.
func collect(t *testing.T, s registry.Store, prefix string, from int64, n int) []registry.Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []registry.Change
	err := s.Watch(ctx, prefix, from, func(b registry.Batch) error {
		got = append(got, b.Changes...)
		if len(got) >= n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("watch ended with %d of %d changes: %v", len(got), n, err)
	}
	return got
}

func testWatchFrom(t *testing.T, h Harness) {
	first := put(t, h.Store, "/p/a", "1")
	second := put(t, h.Store, "/p/b", "1")
	put(t, h.Store, "/q/c", "1")
	gone := remove(t, h.Store, "/p/a")
	got := collect(t, h.Store, "/p/", first+1, 2)
	want := []registry.Change{
		{KV: registry.KV{Key: "/p/b", Value: []byte("1"), Create: second, Mod: second}},
		{KV: registry.KV{Key: "/p/a", Mod: gone}, Deleted: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func testWatchWholeRevision(t *testing.T, h Harness) {
	rev := put(t, h.Store, "/z", "")
	var ops []registry.Op
	for i := range 20 {
		ops = append(ops, registry.Put(fmt.Sprintf("/p/%02d", i), nil))
	}
	if _, err := h.Store.Commit(t.Context(), registry.Txn{Ops: ops}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := h.Store.Watch(ctx, "/p/", rev+1, func(b registry.Batch) error {
		if len(b.Changes) != 20 || b.Revision != rev+1 {
			t.Errorf("batch of %d changes to revision %d, want 20 to %d", len(b.Changes), b.Revision, rev+1)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
}

func testCompacted(t *testing.T, h Harness) {
	old := put(t, h.Store, "/p/a", "1")
	put(t, h.Store, "/p/a", "2")
	now := put(t, h.Store, "/p/a", "3")
	if err := h.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Store.List(t.Context(), "/p/", old); !errors.Is(err, registry.ErrCompacted) {
		t.Errorf("list: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Store.Watch(ctx, "/p/", old, func(registry.Batch) error { return nil }); !errors.Is(err, registry.ErrCompacted) {
		t.Errorf("watch: %v", err)
	}
	if kvs, _, err := h.Store.List(t.Context(), "/p/", 0); err != nil || len(kvs) != 1 {
		t.Errorf("list now: %v, %v", kvs, err)
	}
}

func testLeases(t *testing.T, h Harness) {
	id, err := h.Store.Grant(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{{Key: "/l", Lease: id}}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.KeepAlive(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	left, ttl, err := h.Store.TimeLeft(t.Context(), id)
	if err != nil || ttl != time.Minute || left > ttl || left < ttl/2 {
		t.Errorf("%v of %v is left: %v", left, ttl, err)
	}
	if err := h.Store.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.Get(t.Context(), "/l"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("key after revoke: %v", err)
	}
	if err := h.Store.KeepAlive(t.Context(), id); !errors.Is(err, registry.ErrLeaseGone) {
		t.Errorf("keep alive after revoke: %v", err)
	}
	if _, _, err := h.Store.TimeLeft(t.Context(), id); !errors.Is(err, registry.ErrLeaseGone) {
		t.Errorf("time left after revoke: %v", err)
	}
	if err := h.Store.Revoke(t.Context(), id); err != nil {
		t.Errorf("revoke twice: %v", err)
	}
	_, err = h.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{{Key: "/l", Lease: id}}})
	if !errors.Is(err, registry.ErrLeaseGone) {
		t.Errorf("put on a gone lease: %v", err)
	}
}

func testLeaseExpires(t *testing.T, h Harness) {
	rev := put(t, h.Store, "/z", "")
	id, err := h.Store.Grant(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{{Key: "/l", Lease: id}}}); err != nil {
		t.Fatal(err)
	}
	got := collect(t, h.Store, "/l", rev+1, 2)
	if !got[1].Deleted {
		t.Errorf("second change is no deletion: %v", got[1])
	}
}

func testLimits(t *testing.T, h Harness) {
	big := registry.Txn{Ops: []registry.Op{registry.Put("/a", make([]byte, registry.MaxValue+1))}}
	if _, err := h.Store.Commit(t.Context(), big); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("large value: %v", err)
	}
	fits := registry.Txn{Ops: []registry.Op{registry.Put("/a", make([]byte, registry.MaxValue))}}
	if _, err := h.Store.Commit(t.Context(), fits); err != nil {
		t.Errorf("largest value: %v", err)
	}
	var many registry.Txn
	for i := range registry.MaxOps {
		key := fmt.Sprintf("/m/%d", i)
		many.Guards = append(many.Guards, registry.Guard{Key: key})
		many.Ops = append(many.Ops, registry.Put(key, nil))
	}
	if _, err := h.Store.Commit(t.Context(), many); err != nil {
		t.Errorf("%d operations: %v", registry.MaxOps, err)
	}
	many.Ops = append(many.Ops, registry.Put("/m/x", nil))
	if _, err := h.Store.Commit(t.Context(), many); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("%d operations: %v", registry.MaxOps+1, err)
	}
}

// testSameKeyTwice holds stores to what etcd does: it refuses the transaction.
func testSameKeyTwice(t *testing.T, h Harness) {
	twice := registry.Txn{Ops: []registry.Op{registry.Put("/a", nil), registry.Delete("/a")}}
	if _, err := h.Store.Commit(t.Context(), twice); err == nil {
		t.Error("a key was written twice in one transaction")
	}
}

// testConcurrentWriters has many writers count up one key under guards: no
// count may be lost.
func testConcurrentWriters(t *testing.T, h Harness) {
	const writers, rounds = 8, 10
	put(t, h.Store, "/n", "")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				kv, err := h.Store.Get(t.Context(), "/n")
				if err != nil {
					t.Error(err)
					return
				}
				_, err = h.Store.Commit(t.Context(), registry.Txn{
					Guards: []registry.Guard{{Key: "/n", Mod: kv.Mod}},
					Ops:    []registry.Op{registry.Put("/n", append(kv.Value[:len(kv.Value):len(kv.Value)], 'x'))},
				})
				if err == nil {
					done++
				} else if !errors.Is(err, registry.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	kv, err := h.Store.Get(t.Context(), "/n")
	if err != nil || len(kv.Value) != writers*rounds {
		t.Errorf("%d of %d writes kept, %v", len(kv.Value), writers*rounds, err)
	}
}
