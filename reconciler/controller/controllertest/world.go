// Package controllertest is a small cluster in memory for the tests of
// controllers: a store, registries, a mirror, and a recorder of events, in a
// testing/synctest bubble. Only tests use it.
package controllertest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// World is a cluster with the namespace default and nothing else.
type World struct {
	T      *testing.T
	Store  *memory.Store
	Writer controller.Writer
	Logger *slog.Logger

	mu      sync.Mutex
	events  []string
	ctx     context.Context
	running *sync.WaitGroup
}

// Run runs a test in a bubble; whatever Start started has ended when it
// returns.
func Run(t *testing.T, test func(w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := memory.New()
		w := &World{T: t, Store: store, ctx: ctx, running: &sync.WaitGroup{}, Logger: slog.New(slog.DiscardHandler)}
		w.Writer = controller.Writer{Registries: registry.New(store, registry.Config{}), Mirror: registry.NewMirror(registry.MirrorConfig{Store: store})}
		w.Start(w.Writer.Mirror.Run)
		w.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		test(w)
		cancel()
		w.running.Wait()
	})
}

// Start runs something until the test ends; an error of it fails the test. As
// a leader's, its mirror has seen by then all that was written before.
func (w *World) Start(run func(context.Context) error) {
	synctest.Wait()
	w.running.Go(func() {
		if err := run(w.ctx); err != nil {
			w.T.Errorf("ended: %v", err)
		}
	})
}

// Event implements controller.Recorder.
func (w *World) Event(about schema.Object, _, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s: %s", schema.KeyOf(about), reason, message))
}

// Events returns what was recorded since the last call, sorted.
func (w *World) Events() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.events
	w.events = nil
	slices.Sort(out)
	return out
}

// Create makes an object.
func (w *World) Create(obj schema.Object) schema.Object {
	w.T.Helper()
	created, err := w.Writer.Registries.Create(w.ctx, obj)
	if err != nil {
		w.T.Fatal(err)
	}
	return created
}

// Delete deletes an object; grace is that of a pod, nil for its own.
func (w *World) Delete(key schema.Key, grace *int64) {
	w.T.Helper()
	if _, err := w.Writer.Registries.Delete(w.ctx, registry.Deletion{Key: key, GraceSeconds: grace}); err != nil {
		w.T.Fatal(err)
	}
}

// Change changes an object.
func (w *World) Change(key schema.Key, change func(schema.Object)) {
	w.T.Helper()
	_, err := w.Writer.Registries.Mutate(w.ctx, key, func(obj schema.Object) error {
		change(obj)
		return nil
	})
	if err != nil {
		w.T.Fatal(err)
	}
}

// Commit writes keys as they are.
func (w *World) Commit(ops ...registry.Op) {
	w.T.Helper()
	if _, err := w.Store.Commit(w.ctx, registry.Txn{Ops: ops}); err != nil {
		w.T.Fatal(err)
	}
}

// Report writes what an agent says of its node, and its lease if it is up.
func (w *World) Report(name string, up bool, change ...func(*corev1.Node)) {
	w.T.Helper()
	status := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	status.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	status.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	for _, c := range change {
		c(status)
	}
	lease := registry.Put(schema.NodeLeasePrefix+name, nil)
	if !up {
		lease = registry.Delete(schema.NodeLeasePrefix + name)
	}
	w.Commit(registry.Put(schema.NodeStatusPrefix+name, w.encode(status)), lease)
}

// Status writes what a pod's agent says of it; with stopped, also that nothing
// of it runs any more.
func (w *World) Status(pod *corev1.Pod, stopped bool, change ...func(*corev1.PodStatus)) {
	w.T.Helper()
	status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if stopped {
		status.Annotations = map[string]string{schema.StoppedAnnotation: string(pod.UID)}
	}
	for _, c := range change {
		c(&status.Status)
	}
	w.Commit(registry.Put(schema.PodStatusPath(pod.Spec.NodeName, pod.Namespace, pod.Name), w.encode(status)))
}

func (w *World) encode(obj schema.Object) []byte {
	w.T.Helper()
	data, err := schema.Encode(obj)
	if err != nil {
		w.T.Fatal(err)
	}
	return data
}

// Get returns an object, or nil, when everything has come to rest.
func (w *World) Get(key schema.Key) schema.Object {
	synctest.Wait()
	obj, _ := w.Writer.Registries.Get(w.ctx, key)
	return obj
}

// Keys returns the keys with a prefix, without it, when everything has come to
// rest.
func (w *World) Keys(prefix string) []string {
	w.T.Helper()
	synctest.Wait()
	kvs, _, err := w.Store.List(w.ctx, prefix, 0)
	if err != nil {
		w.T.Fatal(err)
	}
	out := []string{}
	for _, kv := range kvs {
		out = append(out, strings.TrimPrefix(kv.Key, prefix))
	}
	return out
}

// Revision is that of the store when everything has come to rest: equal before
// and after means that nothing was written.
func (w *World) Revision() int64 {
	w.T.Helper()
	synctest.Wait()
	_, revision, err := w.Store.List(w.ctx, schema.Root, 0)
	if err != nil {
		w.T.Fatal(err)
	}
	return revision
}
