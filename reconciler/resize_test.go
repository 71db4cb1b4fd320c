package reconciler

import (
	"fmt"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// TestChangedResourcesResizeThePod: what can be given to a pod that runs is,
// with other changes that can be made in place; all else replaces it.
func TestChangedResourcesResizeThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		set := func(label, resources string) {
			src.set(map[string]string{"p.yaml": fmt.Sprintf(
				"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {a: %s}}\nspec: {containers: [{name: c, image: i, resources: {%s}}]}\n", label, resources)})
			synctest.Wait()
		}
		set("x", "requests: {cpu: 100m, memory: 1Mi}")
		stop := b.run(src)
		defer stop()
		synctest.Wait()
		pods := registry.Of[*corev1.Pod](b.regs, schema.Pods)
		before, err := pods.Get(t.Context(), "shop", "p")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, label, resources string
			replaced               bool
			cpu                    string
		}{
			{"more", "x", "requests: {cpu: 200m, memory: 1Mi}", false, "200m"},
			{"less, and a label", "z", "requests: {cpu: 50m, memory: 1Mi}", false, "50m"},
			{"a limit", "z", "requests: {cpu: 50m, memory: 1Mi}, limits: {memory: 2Mi}", false, "50m"},
			{"without the limit", "z", "requests: {cpu: 50m, memory: 1Mi}", true, "50m"},
			{"of another class", "z", "requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 1, memory: 1Mi}", true, "1"},
		} {
			set(c.label, c.resources)
			after, err := pods.Get(t.Context(), "shop", "p")
			if err != nil {
				t.Fatal(err)
			}
			if replaced := after.UID != before.UID; replaced != c.replaced {
				t.Errorf("%s: replaced %t", c.name, replaced)
			}
			if got := after.Spec.Containers[0].Resources.Requests.Cpu().String(); got != c.cpu || after.Labels["a"] != c.label {
				t.Errorf("%s: requests %s, labels %v", c.name, got, after.Labels)
			}
			before = after
		}
	})
}
