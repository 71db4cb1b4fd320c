package reconciler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// fakeSource is a source whose files a test sets.
type fakeSource struct {
	name string

	mu      sync.Mutex
	files   map[string]string
	err     error
	commit  *manifests.Commit
	broken  string // a file that cannot be read
	version int
	changed func()
}

func (s *fakeSource) Name() string { return s.name }

func (s *fakeSource) Snapshot(context.Context) (manifests.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return manifests.Snapshot{}, s.err
	}
	snap := manifests.Snapshot{Source: s.name, Location: s.name, Revision: fmt.Sprint("r", s.version), Tree: fmt.Sprint("t", s.version), Commit: s.commit}
	for path, text := range s.files {
		snap.Files = append(snap.Files, manifests.File{Path: path, Hash: text, Read: func() ([]byte, error) {
			if path == s.broken {
				return nil, manifests.Unavailable(fs.ErrPermission)
			}
			return []byte(text), nil
		}})
	}
	return snap, nil
}

func (s *fakeSource) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.changed = changed
	s.mu.Unlock()
	changed()
	<-ctx.Done()
	return nil
}

func (s *fakeSource) set(files map[string]string) {
	s.mu.Lock()
	s.files, s.err = files, nil
	s.version++
	changed := s.changed
	s.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (s *fakeSource) fail(err error) {
	s.mu.Lock()
	s.err = err
	changed := s.changed
	s.mu.Unlock()
	changed()
}

// bench is a running reconciler on the memory store, inside a bubble.
type testbed struct {
	t      *testing.T
	store  *memory.Store
	regs   *registry.Registries
	mirror *registry.Mirror
}

// run starts a reconciler for the sources and returns what stops it.
func (b *testbed) run(sources ...manifests.Source) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.mirror = registry.NewMirror(registry.MirrorConfig{Store: b.store})
	cfg := Config{Registries: b.regs, Mirror: b.mirror, Sources: sources, Validator: validation.Rules{}, Logger: slog.New(slog.DiscardHandler)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.mirror.Run(ctx) })
	wg.Go(func() {
		if err := Run(ctx, cfg); err != nil {
			b.t.Error(err)
		}
	})
	synctest.Wait()
	return func() { cancel(); wg.Wait() }
}

func newTestbed(t *testing.T) *testbed {
	store := memory.New()
	b := &testbed{t: t, store: store, regs: registry.New(store, registry.Config{Validator: validation.Rules{}})}
	for _, name := range []string{"default", "shop"} {
		if _, err := b.regs.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// has lists the objects of a kind by name.
func (b *testbed) has(kind *schema.Kind) []string {
	b.t.Helper()
	objs, _, err := b.regs.List(b.t.Context(), kind, "")
	if err != nil {
		b.t.Fatal(err)
	}
	names := []string{}
	for _, obj := range objs {
		names = append(names, obj.GetName())
	}
	return names
}

func (b *testbed) head(source string) Head {
	b.t.Helper()
	kvs, _, err := b.store.List(b.t.Context(), schema.SourcesPrefix, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	_, heads, err := Books(kvs)
	if err != nil {
		b.t.Fatal(err)
	}
	return heads[source]
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\ndata: {key: %q}\n", name, value)
}

func expect[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestFollowsASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		stop := b.run(src)
		defer stop()
		expect(t, "after the first revision", []string{"a", "b"}, b.has(schema.ConfigMaps))

		src.set(map[string]string{"a.yaml": configMap("a", "2"), "c.yaml": configMap("c", "1")})
		synctest.Wait()
		expect(t, "after a removal and an addition", []string{"a", "c"}, b.has(schema.ConfigMaps))
		expect(t, "head", Applied, b.head("src").Result)
		a, err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Get(t.Context(), "shop", "a")
		if err != nil || a.Data["key"] != "2" {
			t.Errorf("a: %v, %v", a, err)
		}
	})
}

func TestBrokenRevisionChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		stop := b.run(src)
		src.set(map[string]string{"a.yaml": configMap("a", "2"), "c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndaat: {}\n"})
		synctest.Wait()
		expect(t, "objects", []string{"a", "b"}, b.has(schema.ConfigMaps))
		head := b.head("src")
		if head.Result != Failed || head.Revision != "r1" || head.Seen != "r2" || len(head.Findings) != 1 || !strings.HasPrefix(head.Findings[0], "c.yaml:4:1") {
			t.Errorf("head: %+v", head)
		}
		stop()
		// A new process that only ever saw the broken revision keeps the last good one in force.
		stop = b.run(src)
		defer stop()
		if err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Delete(t.Context(), "shop", "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "objects after a restart", []string{"a", "b"}, b.has(schema.ConfigMaps))
	})
}

func TestDriftIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(map[string]string{"a.yaml": configMap("a", "1")})
		stop := b.run(src)
		defer stop()
		maps := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps)
		if _, err := maps.Mutate(t.Context(), "shop", "a", func(cm *corev1.ConfigMap) error {
			cm.Data["key"] = "edited"
			cm.Data["other"] = "kept"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cm, err := maps.Get(t.Context(), "shop", "a")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "what git says and what it does not", map[string]string{"key": "1", "other": "kept"}, cm.Data)
		if err := maps.Delete(t.Context(), "shop", "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		expect(t, "after a deletion", []string{"a"}, b.has(schema.ConfigMaps))
	})
}

func TestPrunesOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		if _, err := b.regs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "foreign"}}); err != nil {
			t.Fatal(err)
		}
		one, two := &fakeSource{name: "one"}, &fakeSource{name: "two"}
		one.set(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		two.set(map[string]string{"c.yaml": configMap("c", "1")})
		stop := b.run(one, two)
		defer stop()
		one.set(map[string]string{"a.yaml": configMap("a", "1")})
		synctest.Wait()
		expect(t, "objects", []string{"a", "c", "foreign"}, b.has(schema.ConfigMaps))

		one.fail(errors.New("no route to host"))
		synctest.Wait()
		expect(t, "while the source cannot be read", []string{"a", "c", "foreign"}, b.has(schema.ConfigMaps))
		expect(t, "head", Unavailable, b.head("one").Result)

		one.set(map[string]string{})
		synctest.Wait()
		expect(t, "when it came back empty", []string{"a", "c", "foreign"}, b.has(schema.ConfigMaps))
		expect(t, "head", Held, b.head("one").Result)
	})
}

func TestSameObjectInTwoSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		one, two := &fakeSource{name: "one"}, &fakeSource{name: "two"}
		one.set(map[string]string{"a.yaml": configMap("a", "1")})
		two.set(map[string]string{"c.yaml": configMap("c", "1")})
		stop := b.run(one, two)
		defer stop()
		two.set(map[string]string{"c.yaml": configMap("c", "2"), "dup.yaml": configMap("a", "2")})
		synctest.Wait()
		head := b.head("two")
		if head.Result != Failed || len(head.Findings) != 1 || !strings.Contains(head.Findings[0], "dup.yaml") || !strings.Contains(head.Findings[0], "a.yaml") {
			t.Errorf("head: %+v", head)
		}
		cm, err := registry.Of[*corev1.ConfigMap](b.regs, schema.ConfigMaps).Get(t.Context(), "shop", "c")
		if err != nil || cm.Data["key"] != "1" {
			t.Errorf("half of the revision was applied: %v, %v", cm.Data, err)
		}
	})
}

func TestNoOpWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		files := map[string]string{"svc.yaml": `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}], type: NodePort}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "busybox", resources: {requests: {cpu: "1000m"}}}]}
`}
		src.set(files)
		b.run(src)()
		_, before, err := b.store.List(t.Context(), "/", 0)
		if err != nil {
			t.Fatal(err)
		}
		b.run(src)()
		_, after, err := b.store.List(t.Context(), "/", 0)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "revision of the store after the same again", before, after)
	})
}

func TestRenamedServiceTakesItsNodePortAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		svc := func(name string) map[string]string {
			return map[string]string{"svc.yaml": fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}\n", name)}
		}
		src.set(svc("old"))
		stop := b.run(src)
		defer stop()
		src.set(svc("new"))
		synctest.Wait()
		expect(t, "services", []string{"new"}, b.has(schema.Services))
		expect(t, "head", Applied, b.head("src").Result)
	})
}

func TestChangedPodIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		pod := func(command string) map[string]string {
			return map[string]string{"p.yaml": fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: c, image: i, command: [%s]}]}\n", command)}
		}
		src.set(pod("a"))
		stop := b.run(src)
		defer stop()
		pods := registry.Of[*corev1.Pod](b.regs, schema.Pods)
		before, err := pods.Get(t.Context(), "shop", "p")
		if err != nil {
			t.Fatal(err)
		}
		src.set(pod("b"))
		synctest.Wait()
		after, err := pods.Get(t.Context(), "shop", "p")
		if err != nil {
			t.Fatal(err)
		}
		if after.UID == before.UID || after.Spec.Containers[0].Command[0] != "b" {
			t.Errorf("pod was not replaced: UID %s, command %v", after.UID, after.Spec.Containers[0].Command)
		}
	})
}

func TestImmutableFieldRefusesTheRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		src.set(map[string]string{"a.yaml": configMap("a", "1") + "immutable: true\n"})
		stop := b.run(src)
		defer stop()
		src.set(map[string]string{"a.yaml": configMap("a", "2") + "immutable: true\n", "b.yaml": configMap("b", "1")})
		synctest.Wait()
		expect(t, "objects", []string{"a"}, b.has(schema.ConfigMaps))
		head := b.head("src")
		if head.Result != Failed || !strings.HasPrefix(head.Message, "a.yaml:") {
			t.Errorf("head: %+v", head)
		}
	})
}

// TestObjectMovesToAnotherSource covers a directory that was given under
// another path or a repository at another ref: the objects go along, and
// nothing is made anew.
func TestObjectMovesToAnotherSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		old, renamed := &fakeSource{name: "old"}, &fakeSource{name: "new"}
		old.set(map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")})
		b.run(old)()
		before, err := b.regs.Get(t.Context(), schema.ConfigMaps.Key("shop", "a"))
		if err != nil {
			t.Fatal(err)
		}
		renamed.set(map[string]string{"a.yaml": configMap("a", "1")})
		stop := b.run(renamed)
		defer stop()
		after, err := b.regs.Get(t.Context(), schema.ConfigMaps.Key("shop", "a"))
		if err != nil || after.GetUID() != before.GetUID() {
			t.Errorf("object was made anew: %v", err)
		}
		expect(t, "what the new source does not say", []string{"a", "b"}, b.has(schema.ConfigMaps))
		kvs, _, err := b.store.List(t.Context(), schema.SourcesPrefix, 0)
		if err != nil {
			t.Fatal(err)
		}
		inventory, _, err := Books(kvs)
		if err != nil {
			t.Fatal(err)
		}
		owners := map[string]string{}
		for key, owned := range inventory {
			owners[key.Name] = owned.Source
		}
		expect(t, "owners", map[string]string{"a": "new", "b": "old"}, owners)
		entries := 0
		for _, kv := range kvs {
			if strings.HasSuffix(kv.Key, "/configmaps/shop/a") {
				entries++
			}
		}
		expect(t, "entries of a", 1, entries)
	})
}

// TestRefusedServiceStopsAllTransactions has a revision too large for one
// transaction with a fault in its last object that only the registries find.
func TestRefusedServiceStopsAllTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		src := &fakeSource{name: "src"}
		files := map[string]string{"svc.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 29999}]}\n"}
		for i := range 200 {
			files[fmt.Sprintf("%03d.yaml", i)] = configMap(fmt.Sprintf("c%03d", i), "1")
		}
		src.set(files)
		stop := b.run(src)
		defer stop()
		expect(t, "objects", []string{}, b.has(schema.ConfigMaps))
		if head := b.head("src"); head.Result != Failed || !strings.HasPrefix(head.Message, "svc.yaml:1:1") {
			t.Errorf("head: %+v", head)
		}
	})
}
