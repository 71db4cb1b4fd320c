package nodeagent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

func encoded(t *testing.T, obj runtime.Object) []byte {
	t.Helper()
	data, err := schema.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBindingsLoad(t *testing.T) {
	const prefix = "/b/"
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cm"}}
	values := map[string][]byte{
		prefix + "node": encoded(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}),
		prefix + "a":    encoded(t, newPod("a", "main")), prefix + "b": encoded(t, newPod("b", "main")), prefix + "cm": encoded(t, cm),
	}
	b := &bindings{}
	load := func(want changed) {
		t.Helper()
		got, err := b.load(prefix, values)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.pods) > 1 {
			got.pods = []string{fmt.Sprint(len(got.pods))}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(changed{})); diff != "" {
			t.Error(diff)
		}
	}
	none := map[schema.Key]bool{}
	load(changed{pods: []string{"2"}, refs: map[schema.Key]bool{schema.KeyOf(cm): true}, node: true, peers: true})
	before := b.pod("uid-a")
	load(changed{refs: none})
	if b.pod("uid-a") != before {
		t.Error("decoded again")
	}
	values[prefix+"b"] = encoded(t, newPod("b", "other"))
	delete(values, prefix+"cm")
	load(changed{pods: []string{"uid-b"}, refs: map[schema.Key]bool{schema.KeyOf(cm): true}})
	values[prefix+"peers"] = encoded(t, &corev1.NodeList{})
	load(changed{refs: none, peers: true})

	values[prefix+"c"] = []byte("nonsense")
	delete(values, prefix+"a")
	if _, err := b.load(prefix, values); err == nil || b.pod("uid-a") != before {
		t.Errorf("a reading with a bad value was taken: %v", err)
	}
}

// pickyStore takes no transaction of more than some operations.
type pickyStore struct {
	*memory.Store
	max, refused int
}

func (s *pickyStore) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if len(txn.Ops) > s.max {
		s.refused++
		return 0, registry.ErrTooLarge
	}
	return s.Store.Commit(ctx, txn)
}

func TestPublisherGoesOneByOne(t *testing.T) {
	for name, tooLarge := range map[string]bool{"one is not bound in the store": false, "too large together": true} {
		t.Run(name, func(t *testing.T) {
			store := &pickyStore{Store: memory.New(), max: 10}
			if tooLarge {
				store.max = 1
			}
			p := newPublisher(store, node, func(uid types.UID) (types.UID, bool) { return uid, true }, slog.New(slog.DiscardHandler))
			var reports []report
			for _, pod := range []*corev1.Pod{newPod("a"), newPod("b"), newPod("c")} {
				reports = append(reports, report{pod: types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, uid: pod.UID, as: pod.UID})
				if pod.Name == "b" {
					continue
				}
				if _, err := store.Store.Commit(t.Context(), registry.Txn{Ops: []registry.Op{registry.Put(schema.BindingPath(node, schema.KeyOf(pod)), nil)}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.write(t.Context(), reports); err != nil {
				t.Error(err)
			}
			kvs, _, err := store.List(t.Context(), schema.PodStatusPrefix, 0)
			if err != nil || len(kvs) != 2 || tooLarge != (store.refused > 0) {
				t.Errorf("%d statuses, %d refused: %v", len(kvs), store.refused, err)
			}
		})
	}
}
