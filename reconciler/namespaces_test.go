package reconciler

import (
	"testing"
	"testing/synctest"

	"github.com/evenkeel/evenkeel/schema"
)

// TestNamespaceThatMayNotBeDeleted: a source lets go of a namespace that every
// cluster has, and goes on.
func TestNamespaceThatMayNotBeDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: web}}\n"
		src.set(map[string]string{"ns.yaml": namespace, "a.yaml": configMap("a", "1")})
		stop := b.run(src)
		defer stop()
		src.set(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		synctest.Wait()
		expect(t, "config maps", []string{"a", "b"}, b.has(schema.ConfigMaps))
		expect(t, "namespaces", []string{"default", "shop"}, b.has(schema.Namespaces))
		expect(t, "head", Applied, b.head("src").Result)
	})
}
