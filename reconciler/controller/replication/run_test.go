package replication_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evenkeel/evenkeel/reconciler/controller"
	"github.com/evenkeel/evenkeel/reconciler/controller/replication"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
	"github.com/evenkeel/evenkeel/schema/registry/memory"
)

// judge is a memory store that checks every transaction that creates pods: it
// must not bring more than the controller asks for at that revision. Its
// watches lag, and its commits fail when they are told to.
type judge struct {
	*memory.Store
	all *registry.Registries // on the memory store itself

	mu     sync.Mutex
	lag    time.Duration
	faults []fault
	met    int
	wrong  []string
}

type fault int

const (
	lost     fault = iota // it happens, the answer is lost
	late                  // the answer is lost, and it happens a second later
	nothing               // it does not happen
	lastKind              // number of kinds
)

func (j *judge) Commit(ctx context.Context, txn registry.Txn) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	creates := false
	for _, g := range txn.Guards {
		creates = creates || g.Mod == registry.Absent && strings.HasPrefix(g.Key, "/registry/pods/")
	}
	if creates && len(j.faults) > 0 {
		f := j.faults[0]
		j.faults = j.faults[1:]
		j.met++
		switch f {
		case lost:
			_, _ = j.commitLocked(ctx, txn, creates)
		case late:
			time.AfterFunc(time.Second, func() {
				j.mu.Lock()
				defer j.mu.Unlock()
				_, _ = j.commitLocked(context.WithoutCancel(ctx), txn, creates)
			})
		}
		return 0, registry.ErrUnavailable
	}
	return j.commitLocked(ctx, txn, creates)
}

func (j *judge) commitLocked(ctx context.Context, txn registry.Txn, creates bool) (int64, error) {
	revision, err := j.Store.Commit(ctx, txn)
	if err == nil && creates {
		if have, want := j.count(revision); have > want {
			j.wrong = append(j.wrong, fmt.Sprintf("revision %d: created up to %d pods where %d are asked for", revision, have, want))
		}
	}
	return revision, err
}

// count is how many active pods the controller owns, and asks for, as of a
// revision; 0 is now.
func (j *judge) count(revision int64) (have, want int) {
	at := registry.Page{Revision: revision}
	rcs, _, _, err := j.all.ListPage(context.Background(), schema.ReplicationControllers, "default", at)
	if err != nil || len(rcs) == 0 {
		return 0, 0
	}
	rc := rcs[0].(*corev1.ReplicationController)
	pods, _, _, _ := j.all.ListPage(context.Background(), schema.Pods, "default", at)
	for _, obj := range pods {
		pod := obj.(*corev1.Pod)
		if metav1.IsControlledBy(pod, rc) && pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed {
			have++
		}
	}
	return have, int(*rc.Spec.Replicas)
}

func (j *judge) Watch(ctx context.Context, prefix string, from int64, emit func(registry.Batch) error) error {
	return j.Store.Watch(ctx, prefix, from, func(b registry.Batch) error {
		j.mu.Lock()
		lag := j.lag
		j.mu.Unlock()
		if lag > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(lag):
			}
		}
		return emit(b)
	})
}

func (j *judge) set(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
}

type discard struct{}

func (discard) Event(schema.Object, string, string, string) {}

// world is a store with one replication controller, and leaders that come and
// go.
type world struct {
	ctx     context.Context
	j       *judge
	all     *registry.Registries
	standby *registry.Mirror // of the next leader; it may lag when that comes
	leaders int
	running sync.WaitGroup
}

// lead makes a new leader: it takes the role's key from the one before, which
// goes on until it notices.
func (w *world) lead() error {
	w.leaders++
	key := schema.ElectionPrefix + "reconcile"
	term, err := w.j.Store.Commit(w.ctx, registry.Txn{Ops: []registry.Op{registry.Put(key, fmt.Append(nil, w.leaders))}})
	if err != nil {
		return err
	}
	mirror := w.standby
	w.follow()
	w.running.Go(func() {
		_ = replication.Run(w.ctx, replication.Config{
			Writer:   controller.Writer{Registries: w.all.Fenced(registry.Guard{Key: key, Mod: term}), Mirror: mirror},
			Recorder: discard{}, Logger: slog.New(slog.DiscardHandler),
		})
	})
	return nil
}

func (w *world) follow() {
	mirror := registry.NewMirror(registry.MirrorConfig{Store: w.j})
	w.standby = mirror
	w.running.Go(func() { _ = mirror.Run(w.ctx) })
}

// newWorld makes a world with as many pods asked for.
func newWorld(ctx context.Context, replicas int32) (*world, error) {
	store := memory.New()
	direct := registry.New(store, registry.Config{})
	j := &judge{Store: store, all: direct}
	w := &world{ctx: ctx, j: j, all: registry.New(j, registry.Config{})}
	w.follow()
	rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	rc.Spec.Replicas = &replicas
	rc.Spec.Selector = map[string]string{"app": "web"}
	rc.Spec.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}
	_, errNS := direct.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	_, errNode := direct.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	_, errRC := direct.Create(ctx, rc)
	return w, errors.Join(errNS, errNode, errRC, w.lead())
}

func (w *world) pods() []*corev1.Pod {
	objs, _, _ := w.j.all.List(w.ctx, schema.Pods, "default")
	var out []*corev1.Pod
	for _, obj := range objs {
		out = append(out, obj.(*corev1.Pod))
	}
	return out
}

// act does one random thing to the world.
func (w *world) act(kind, number int) error {
	pods := w.pods()
	var pod *corev1.Pod
	if len(pods) > 0 {
		pod = pods[number%len(pods)]
	}
	var err error
	switch kind {
	case 0:
		replicas := int32(number % 7)
		_, err = w.j.all.Mutate(w.ctx, schema.ReplicationControllers.Key("default", "web"), func(obj schema.Object) error {
			obj.(*corev1.ReplicationController).Spec.Replicas = &replicas
			return nil
		})
	case 1:
		err = w.lead()
	case 2:
		w.j.set(func() { w.j.faults = append(w.j.faults, fault(number%int(lastKind))) })
	case 3:
		w.j.set(func() { w.j.lag = time.Duration(number%4) * 100 * time.Millisecond })
	case 4:
		select {
		case <-w.ctx.Done():
		case <-time.After(time.Duration(number) * time.Millisecond):
		}
	case 5:
		orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "mine-", Labels: map[string]string{"app": "web"}}}
		_, err = w.j.all.Create(w.ctx, orphan)
	default:
		if pod != nil {
			err = w.hit(kind, pod)
		}
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (w *world) hit(kind int, pod *corev1.Pod) error {
	key := schema.KeyOf(pod)
	switch kind {
	case 6:
		_, err := w.j.all.Delete(w.ctx, registry.Deletion{Key: key, GraceSeconds: new(int64)})
		return err
	case 7:
		_, err := w.j.all.Delete(w.ctx, registry.Deletion{Key: key})
		return err
	case 8:
		if pod.Spec.NodeName != "" {
			return nil
		}
		_, err := w.j.all.Bind(w.ctx, registry.Binding{Pod: pod, Node: "n1"})
		return err
	case 9:
		_, err := w.j.all.Mutate(w.ctx, key, func(obj schema.Object) error {
			obj.SetLabels(map[string]string{"app": "debug"})
			return nil
		})
		return err
	default:
		pod.Status.Phase = corev1.PodFailed
		data, err := schema.Encode(pod)
		if err != nil || pod.Spec.NodeName == "" {
			return err
		}
		op := registry.Put(schema.PodStatusPath(pod.Spec.NodeName, pod.Namespace, pod.Name), data)
		_, err = w.j.Store.Commit(w.ctx, registry.Txn{Ops: []registry.Op{op}})
		return err
	}
}

// TestNeverMoreThanAsked does random things, with leaders that lose the role
// without noticing, watches that lag and writes whose answers get lost or that
// happen late. No creation may overshoot, and in the end there are exactly as
// many pods as asked for.
func TestNeverMoreThanAsked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ kind, number int }
		var steps []step
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			steps = append(steps, step{rapid.IntRange(0, 10).Draw(rt, "kind"), rapid.IntRange(0, 600).Draw(rt, "number")})
		}
		var problem error
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			w, err := newWorld(ctx, 4)
			for _, s := range steps {
				if err == nil {
					err = w.act(s.kind, s.number)
				}
			}
			<-time.After(5 * time.Minute)
			synctest.Wait()
			have, want := w.j.count(0)
			if have != want {
				err = errors.Join(err, fmt.Errorf("settled at %d pods where %d are asked for", have, want))
			}
			for _, wrong := range w.j.wrong {
				err = errors.Join(err, errors.New(wrong))
			}
			problem = err
			cancel()
			w.running.Wait()
		})
		if problem != nil {
			rt.Fatalf("%v", problem)
		}
	})
}

// TestFailover stops the first leader in mid-work: between them the two make
// what is asked for, once.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := newWorld(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		w.j.set(func() { w.j.lag = 50 * time.Millisecond })
		<-time.After(20 * time.Millisecond)
		w.j.set(func() { w.j.faults = []fault{late} })
		if err := w.lead(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		have, want := w.j.count(0)
		if have != 100 || want != 100 || len(w.j.wrong) > 0 {
			t.Errorf("%d pods, want %d: %v", have, want, w.j.wrong)
		}
		obj, _ := w.all.Get(t.Context(), schema.ReplicationControllers.Key("default", "web"))
		if status := obj.(*corev1.ReplicationController).Status; status.Replicas != 100 || status.FullyLabeledReplicas != 100 || status.ObservedGeneration != 1 {
			t.Errorf("status %+v", status)
		}
		cancel()
		w.running.Wait()
	})
}
