package registrytest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evenkeel/evenkeel/schema/registry"
)

// testPages reads a prefix in pages of one revision while it changes.
func testPages(t *testing.T, h Harness) {
	put(t, h.Store, "/o", "")
	for i := range 7 {
		put(t, h.Store, fmt.Sprintf("/p/%d", i), "")
	}
	put(t, h.Store, "/q", "")
	r := registry.Range{Prefix: "/p/", Limit: 3}
	var got []string
	for range 3 {
		kvs, revision, remaining, err := h.Store.Page(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			got = append(got, kv.Key)
		}
		got = append(got, fmt.Sprint(remaining))
		r.Revision, r.From = revision, kvs[len(kvs)-1].Key+"\x00"
		remove(t, h.Store, "/p/5")
		put(t, h.Store, "/p/8", "")
	}
	want := []string{"/p/0", "/p/1", "/p/2", "4", "/p/3", "/p/4", "/p/5", "1", "/p/6", "0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys, and how many are left (-want +got):\n%s", diff)
	}
	kvs, _, remaining, err := h.Store.Page(t.Context(), registry.Range{Prefix: "/p/"})
	if err != nil || len(kvs) != 7 || remaining != 0 {
		t.Errorf("without a limit: %d keys, %d left, %v", len(kvs), remaining, err)
	}
}

func testGetAll(t *testing.T, h Harness) {
	var keys []string
	var rev int64
	for i := range 2*registry.MaxOps + 1 {
		keys = append(keys, fmt.Sprintf("/p/%d", i))
		rev = put(t, h.Store, keys[i], "then")
	}
	put(t, h.Store, keys[1], "now")
	remove(t, h.Store, keys[2])
	for _, c := range []struct {
		revision int64
		want     string
		n        int
	}{{rev, "then", len(keys)}, {0, "now", len(keys) - 1}} {
		kvs, err := h.Store.GetAll(t.Context(), append([]string{"/absent"}, keys...), c.revision)
		if err != nil || len(kvs) != c.n || kvs[0].Key != keys[0] || string(kvs[1].Value) != c.want {
			t.Errorf("at %d: %d keys, want %d and %q: %v", c.revision, len(kvs), c.n, c.want, err)
		}
	}
	if kvs, err := h.Store.GetAll(t.Context(), nil, 0); err != nil || len(kvs) != 0 {
		t.Errorf("no keys: %v, %v", kvs, err)
	}
}

func testFutureRevision(t *testing.T, h Harness) {
	rev := put(t, h.Store, "/a", "")
	if _, _, err := h.Store.List(t.Context(), "/", rev+100); !errors.Is(err, registry.ErrFuture) {
		t.Errorf("list: %v", err)
	}
	if _, err := h.Store.GetAll(t.Context(), []string{"/a"}, rev+100); !errors.Is(err, registry.ErrFuture) {
		t.Errorf("get all: %v", err)
	}
}
