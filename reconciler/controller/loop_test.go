package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// calls counts reconciles by key, and checks that no key has two at once.
type calls struct {
	t    *testing.T
	mu   sync.Mutex
	seen map[string]int
	busy map[schema.Key]bool
}

func (c *calls) enter(key schema.Key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[key] {
		c.t.Errorf("%s is worked on twice at once", key)
	}
	c.busy[key] = true
	c.seen[key.Name]++
	return c.seen[key.Name]
}

func (c *calls) leave(key schema.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[key] = false
}

func (c *calls) want(want map[string]int) {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(want, c.seen); diff != "" {
		c.t.Errorf("reconciles (-want +got):\n%s", diff)
	}
}

// inLoop runs a loop over config maps in a bubble; stop waits for its end.
func inLoop(t *testing.T, reconcile func(ctx context.Context, w controller.Writer, key schema.Key, nth int) error,
	test func(w controller.Writer, c *calls, stop func() error),
) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		w := controller.Writer{Registries: registry.New(store, registry.Config{}), Mirror: registry.NewMirror(registry.MirrorConfig{Store: store})}
		create(t, w, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		ctx, cancel := context.WithCancel(t.Context())
		var mirror sync.WaitGroup
		mirror.Go(func() { _ = w.Mirror.Run(ctx) })
		c := &calls{t: t, seen: map[string]int{}, busy: map[schema.Key]bool{}}
		loop := controller.Loop{
			Name: "test", Mirror: w.Mirror, Kinds: []*schema.Kind{schema.ConfigMaps}, Workers: 4, Logger: slog.New(slog.DiscardHandler),
			Reconcile: func(ctx context.Context, key schema.Key) error {
				nth := c.enter(key)
				defer c.leave(key)
				return reconcile(ctx, w, key, nth)
			},
		}
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		test(w, c, func() error { return <-ended })
		cancel()
		mirror.Wait()
		synctest.Wait()
	})
}

func create(t *testing.T, w controller.Writer, obj schema.Object) schema.Object {
	t.Helper()
	created, err := w.Registries.Create(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

func TestLoopRetries(t *testing.T) {
	inLoop(t, func(_ context.Context, _ controller.Writer, key schema.Key, nth int) error {
		if key.Name == "bad" && nth <= 3 {
			return errors.New("no")
		}
		return nil
	}, func(w controller.Writer, c *calls, _ func() error) {
		create(t, w, configMap("good"))
		create(t, w, configMap("bad"))
		c.want(map[string]int{"good": 1, "bad": 1})
		<-time.After(34 * time.Millisecond) // 5 + 10 + 20
		c.want(map[string]int{"good": 1, "bad": 3})
		<-time.After(time.Hour)
		c.want(map[string]int{"good": 1, "bad": 4})
	})
}

func TestLoopLater(t *testing.T) {
	inLoop(t, func(_ context.Context, _ controller.Writer, _ schema.Key, nth int) error {
		if nth < 3 {
			return fmt.Errorf("wrapped: %w", controller.Later{After: time.Minute})
		}
		return nil
	}, func(w controller.Writer, c *calls, _ func() error) {
		create(t, w, configMap("a"))
		<-time.After(61 * time.Second)
		c.want(map[string]int{"a": 2})
		<-time.After(time.Hour)
		c.want(map[string]int{"a": 3})
	})
}

// TestLoopSeesItsWrites changes an object in every reconcile, which makes it
// dirty again: each must see the write of the one before.
func TestLoopSeesItsWrites(t *testing.T) {
	inLoop(t, func(ctx context.Context, w controller.Writer, key schema.Key, nth int) error {
		cm := w.Mirror.Get(key).(*corev1.ConfigMap).DeepCopy()
		if got := cm.Data["n"]; nth > 1 && got != fmt.Sprint(nth-1) {
			t.Errorf("reconcile %d reads %q", nth, got)
		}
		if nth > 20 {
			return nil
		}
		cm.Data = map[string]string{"n": fmt.Sprint(nth)}
		_, err := w.Commit(ctx, registry.Write{Update: cm})
		return err
	}, func(w controller.Writer, c *calls, _ func() error) {
		create(t, w, configMap("a"))
		c.want(map[string]int{"a": 21})
	})
}

func TestLoopEndsWhenFenced(t *testing.T) {
	inLoop(t, func(ctx context.Context, w controller.Writer, key schema.Key, _ int) error {
		w.Registries = w.Registries.Fenced(registry.Guard{Key: schema.ElectionPrefix + "x", Mod: 7})
		_, err := w.Commit(ctx, registry.Write{Delete: &registry.Deletion{Key: key}})
		return err
	}, func(w controller.Writer, _ *calls, stop func() error) {
		create(t, w, configMap("a"))
		if err := stop(); !errors.Is(err, registry.ErrFenced) {
			t.Errorf("ended with %v", err)
		}
	})
}
