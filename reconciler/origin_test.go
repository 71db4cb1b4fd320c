package reconciler

import (
	"context"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// tracedSource is a source that knows the history of its files.
type tracedSource struct {
	*fakeSource
	last map[string]*manifests.Commit
}

func (s *tracedSource) LastChanges(_ context.Context, _ string, files []string) map[string]*manifests.Commit {
	out := map[string]*manifests.Commit{}
	for _, file := range files {
		if c := s.last[file]; c != nil {
			out[file] = c
		}
	}
	return out
}

func commit(id string) *manifests.Commit {
	return &manifests.Commit{ID: strings.Repeat(id, 40), Author: "Ann <ann@example.org>", Subject: "change " + id, Time: time.Unix(1e9, 0)}
}

func (s *fakeSource) at(c *manifests.Commit, files map[string]string) {
	s.mu.Lock()
	s.commit = c
	s.mu.Unlock()
	s.set(files)
}

// stampsOf are an object's annotations but for the domain of their names.
func (b *testbed) stampsOf(name string) map[string]string {
	b.t.Helper()
	synctest.Wait()
	cm, err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Get(b.t.Context(), "shop", name)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for name, value := range cm.Annotations {
		out[strings.TrimPrefix(name, schema.RegistryDirectory)] = value
	}
	return out
}

func (b *testbed) change(name string, change func(*corev1.ConfigMap)) {
	b.t.Helper()
	if _, err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Mutate(b.t.Context(), "shop", name, func(cm *corev1.ConfigMap) error {
		change(cm)
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

// revision is that of an object.
func (b *testbed) revision(name string) string {
	b.t.Helper()
	synctest.Wait()
	obj, err := b.regs.Get(b.t.Context(), schema.ConfigMaps.Key("shop", name))
	if err != nil {
		b.t.Fatal(err)
	}
	return obj.GetResourceVersion()
}

func TestObjectsSayWhereTheyAreFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &tracedSource{fakeSource: &fakeSource{name: "src"}, last: map[string]*manifests.Commit{"b.yaml": commit("b")}}
		src.at(commit("c"), map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		if _, err := b.regs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "there"}, Data: map[string]string{"key": "1"}}); err != nil {
			t.Fatal(err)
		}
		stop := b.run(src)
		defer func() { stop() }()
		a := map[string]string{"source": "src", "commit": strings.Repeat("c", 40), "file": "a.yaml:1"}
		of := func(commit, file string) map[string]string {
			out := maps.Clone(a)
			out["commit"], out["file"] = strings.Repeat(commit, 40), file
			return out
		}
		expect(t, "made by the newest commit", a, b.stampsOf("a"))
		expect(t, "made by an older commit", of("b", "b.yaml:1"), b.stampsOf("b"))

		before := b.revision("a")
		src.last["b.yaml"] = nil
		src.at(commit("d"), map[string]string{"a.yaml": "# more\n" + configMap("a", "1"), "b.yaml": configMap("b", "2"), "c.yaml": configMap("there", "1")})
		expect(t, "changed", of("d", "b.yaml:1"), b.stampsOf("b"))
		expect(t, "adopted", of("d", "c.yaml:1"), b.stampsOf("there"))
		if after := b.revision("a"); after != before {
			t.Errorf("a line more in the file wrote the object: %s, %s", before, after)
		}

		b.change("a", func(cm *corev1.ConfigMap) { cm.Annotations = map[string]string{"mine": "yes"} })
		expect(t, "put back", map[string]string{"source": "src", "commit": a["commit"], "file": "a.yaml:2", "mine": "yes"}, b.stampsOf("a"))
		b.change("a", func(cm *corev1.ConfigMap) { cm.Data["key"] = "drift" })
		expect(t, "drift is no commit", "file=a.yaml:2 commit="+a["commit"], "file="+b.stampsOf("a")["file"]+" commit="+b.stampsOf("a")["commit"])
		if _, err := b.regs.Delete(t.Context(), registry.Deletion{Key: schema.ConfigMaps.Key("shop", "a")}); err != nil {
			t.Fatal(err)
		}
		expect(t, "made again", of("c", "a.yaml:2"), b.stampsOf("a"))

		rest := b.revision("a")
		stop()
		b.change("b", func(cm *corev1.ConfigMap) { cm.Annotations = nil })
		stop = b.run(src)
		expect(t, "put back at the start", of("d", "b.yaml:1"), b.stampsOf("b"))
		if after := b.revision("a"); after != rest {
			t.Errorf("a restart wrote an object: %s, %s", rest, after)
		}
	})
}

// TestStampsInAManifest declares the annotations themselves, as a manifest that
// was taken from a cluster does.
func TestStampsInAManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop, annotations: {evenkeel.io/source: copied}}\n"
		src.at(commit("c"), map[string]string{"a.yaml": text})
		stop := b.run(src)
		defer stop()
		expect(t, "as declared", "copied", b.stampsOf("a")["source"])
		before := b.revision("a")
		b.change("a", func(cm *corev1.ConfigMap) { cm.Labels = map[string]string{"x": "y"} })
		expect(t, "still", "copied", b.stampsOf("a")["source"])
		if len(b.stampsOf("a")) != 3 || b.revision("a") == before {
			t.Errorf("annotations %v", b.stampsOf("a"))
		}
	})
}

func TestOverruled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.at(commit("c"), map[string]string{"apps/web.yaml": configMap("a", "1")})
		stop := b.run(src)
		defer stop()
		key := schema.ConfigMaps.Key("shop", "a")
		owned, ok := Owner(b.mirror, []string{"other", "src"}, key)
		if !ok {
			t.Fatal("nobody owns it")
		}
		expect(t, "where", "apps/web.yaml:1 at ccccccc", owned.Where())
		for _, c := range []struct {
			name   string
			change func(*corev1.ConfigMap)
			want   []string
		}{
			{"nothing", func(*corev1.ConfigMap) {}, nil},
			{"what git does not say", func(cm *corev1.ConfigMap) { cm.Data["other"] = "x"; cm.Labels = map[string]string{"a": "b"} }, nil},
			{"a stamp", func(cm *corev1.ConfigMap) { cm.Annotations = nil }, nil},
			{"a value", func(cm *corev1.ConfigMap) { cm.Data["key"] = "2" }, []string{"data.key"}},
			{"all values", func(cm *corev1.ConfigMap) { cm.Data = nil }, []string{"data"}},
		} {
			cm := b.mirror.Get(key).DeepCopyObject().(*corev1.ConfigMap)
			c.change(cm)
			got, err := Overruled(owned, cm, validation.Rules{})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, c.name, c.want, got)
		}
		if _, ok := Owner(b.mirror, []string{"src"}, schema.ConfigMaps.Key("shop", "none")); ok {
			t.Error("an object that nobody declared has an owner")
		}
	})
}
