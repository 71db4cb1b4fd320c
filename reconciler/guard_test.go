package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

func TestMaxDelete(t *testing.T) {
	for _, test := range []struct {
		text        string
		total, want int
	}{
		{"", 20, 10}, {"", 100, 30}, {"10,30%", 100, 30}, {"5", 100, 5}, {"20%", 100, 20}, {"20%", 9, 1}, {"0", 100, 0}, {"100%", 3, 3},
	} {
		var m MaxDelete
		if test.text != "" {
			if err := m.Set(test.text); err != nil {
				t.Fatal(err)
			}
		}
		m = m.orDefault()
		if got := m.of(test.total); got != test.want {
			t.Errorf("%q of %d: %d, want %d", test.text, test.total, got, test.want)
		}
	}
	for _, bad := range []string{"", "x", "-1", "101%", "1,,2"} {
		if err := new(MaxDelete).Set(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// many are n config maps in a file each.
func many(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("m%02d", i)
		out[name+".yaml"] = configMap(name, "1")
	}
	return out
}

func TestGuardsHoldUntilApproved(t *testing.T) {
	tests := map[string]struct {
		before, after map[string]string
		prepare       func(*testbed, *fakeSource)
		reason        string
	}{
		"too many":  {before: many(20), after: many(5), reason: "it would delete 15 of 20 objects; --max-delete 10,30% allows 10"},
		"empty":     {before: many(3), after: map[string]string{}, reason: "came back empty, which would delete 3 objects"},
		"protected": {before: many(3), after: many(2), reason: "protects: ConfigMap shop/m02", prepare: func(b *testbed, _ *fakeSource) { b.protect("m02") }},
		"rewritten": {before: many(2), after: many(3), reason: "does not descend", prepare: func(_ *testbed, s *fakeSource) { s.commit = &manifests.Commit{Forced: true} }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newTestbed(t)
				src := &fakeSource{name: "src"}
				src.set(test.before)
				stop := b.run(src)
				defer stop()
				if test.prepare != nil {
					test.prepare(b, src)
				}
				src.set(test.after)
				synctest.Wait()
				expect(t, "objects while held", len(test.before), len(b.has(schema.ConfigMaps)))
				head := b.head("src")
				if head.Result != Held || !strings.Contains(head.Message, test.reason) || !strings.Contains(head.Message, "reconcile approve "+head.Plan) {
					t.Errorf("head: %+v", head)
				}
				if _, err := Approve(t.Context(), b.store, "000000000000", time.Now()); err == nil || !strings.Contains(err.Error(), head.Plan) {
					t.Errorf("approval of another plan: %v", err)
				}
				if _, err := Approve(t.Context(), b.store, head.Plan, time.Now()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				expect(t, "objects after approval", len(test.after), len(b.has(schema.ConfigMaps)))
				expect(t, "head after approval", Applied, b.head("src").Result)
				if _, err := b.store.Get(t.Context(), approvalPath("src")); err == nil {
					t.Error("the approval is still there")
				}
			})
		})
	}
}

func (b *testbed) protect(name string) {
	if _, err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Mutate(b.t.Context(), "shop", name, func(cm *corev1.ConfigMap) error {
		cm.Annotations = map[string]string{ProtectAnnotation: "true"}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

func TestApprovalIsOfOnePlanOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(many(20))
		stop := b.run(src)
		defer stop()
		src.set(many(5))
		synctest.Wait()
		hash := b.head("src").Plan
		src.set(many(4))
		synctest.Wait()
		if other := b.head("src").Plan; other == hash {
			t.Fatal("two plans have one hash")
		}
		if _, err := Approve(t.Context(), b.store, hash, time.Now()); err == nil {
			t.Error("a plan that is not held any more was approved")
		}
		expect(t, "objects", 20, len(b.has(schema.ConfigMaps)))

		src.set(many(20))
		synctest.Wait()
		head := b.head("src")
		if head.Result != Applied || head.Plan != "" {
			t.Errorf("after the deletion was taken back: %+v", head)
		}
	})
}

// dying is a store that takes some more transactions that apply something, and
// then none.
type dying struct {
	registry.Store
	left    int
	refused int
}

var errDead = errors.New("dead")

func (d *dying) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	if slices.ContainsFunc(txn.Ops, func(op registry.Op) bool { return strings.HasPrefix(op.Key, schema.ConfigMaps.Prefix("")) }) {
		if d.left == 0 {
			d.refused++
			return 0, errDead
		}
		d.left--
	}
	return d.Store.Commit(ctx, txn)
}

// TestApprovedPlanGoesOnAfterACrash cuts an approved plan off in the middle:
// the next process applies what is left of it, which nobody has approved.
func TestApprovedPlanGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(many(400))
		stop := b.run(src)
		stop()
		store := &dying{Store: b.store, left: 2}
		b.regs = registry.New(store, registry.Config{Validator: validation.Rules{}})
		src.set(many(5))
		stop = b.run(src)
		if _, err := Approve(t.Context(), b.store, b.head("src").Plan, time.Now()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		left := len(b.has(schema.ConfigMaps))
		if left <= 5 || left == 400 || store.refused == 0 {
			t.Fatalf("%d objects left, %d transactions refused: the plan was not cut off", left, store.refused)
		}
		b.regs = registry.New(b.store, registry.Config{Validator: validation.Rules{}})
		stop = b.run(src)
		expect(t, "objects after the restart", 5, len(b.has(schema.ConfigMaps)))
		expect(t, "result", Applied, b.head("src").Result)
		src.set(many(0))
		synctest.Wait()
		expect(t, "result of the next plan", Held, b.head("src").Result)
		stop()
	})
}

// TestUnreadableFileDeletesNothing covers a fetch that breaks off midway and a
// file that may not be read: the rest of the source is not all of it.
func TestUnreadableFileDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(many(3))
		stop := b.run(src)
		defer stop()
		src.broken = "m01.yaml"
		after := many(2)
		after["m01.yaml"] += "# changed\n"
		src.set(after)
		synctest.Wait()
		expect(t, "objects", 3, len(b.has(schema.ConfigMaps)))
		expect(t, "result", Failed, b.head("src").Result)
		src.broken = ""
		src.set(after)
		synctest.Wait()
		expect(t, "objects once it can be read", 2, len(b.has(schema.ConfigMaps)))
	})
}
