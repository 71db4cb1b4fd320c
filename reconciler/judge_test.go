package reconciler

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// needs are checks that find an object missing. It believes what it is told
// that moved.
type needs struct {
	key    schema.Key
	mirror *registry.Mirror
	there  bool
}

func (n *needs) Moved(keys []schema.Key, _ Inventory) {
	if slices.Contains(keys, n.key) {
		n.there = n.mirror.Get(n.key) != nil
	}
}

func (n *needs) Check(sets []*manifests.Set, _ Inventory) manifests.Diagnostics {
	if n.there {
		return nil
	}
	return manifests.Diagnostics{{Code: "E0611", Position: sets[0].Items[0].Place, Message: "no namespace"}}
}

// TestChecksRefuseUntilTheClusterHelps refuses objects in a namespace that is
// not there, and takes them by itself once it is.
func TestChecksRefuseUntilTheClusterHelps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		late := schema.Namespaces.Key("", "late")
		src := &fakeSource{name: "src"}
		src.set(map[string]string{"a.yaml": configMap("a", "1")})
		ctx, cancel := context.WithCancel(t.Context())
		b.mirror = registry.NewMirror(registry.MirrorConfig{Store: b.store})
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.mirror.Run(ctx) })
		wg.Go(func() {
			_ = Run(ctx, Config{
				Sources: []manifests.Source{src}, Registries: b.regs, Mirror: b.mirror, Validator: validation.Rules{}, Checks: &needs{key: late, mirror: b.mirror}, Logger: slog.New(slog.DiscardHandler),
			})
		})
		defer wg.Wait()
		defer cancel()
		synctest.Wait()
		head := b.head("src")
		if head.Result != Failed || len(head.Findings) != 1 {
			t.Errorf("head: %+v", head)
		}
		expect(t, "objects", []string{}, b.has(schema.ConfigMaps))
		if _, err := b.regs.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "late"}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "objects once it is there", []string{"a"}, b.has(schema.ConfigMaps))
		expect(t, "result", Applied, b.head("src").Result)
	})
}
