package nodeagent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/nodeagent/runtime/fake"
	"github.com/evenkeel/evenkeel/schema"
)

// gatedRuntime holds calls back until the test lets them go on.
type gatedRuntime struct {
	*fake.Runtime
	mu    sync.Mutex
	gates map[string]chan struct{}
}

// hold makes calls of a method wait until the returned function is called.
func (r *gatedRuntime) hold(method string) (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gates[method] = gate
	return func() {
		r.mu.Lock()
		delete(r.gates, method)
		r.mu.Unlock()
		close(gate)
		synctest.Wait()
	}
}

func (r *gatedRuntime) pass(ctx context.Context, method string) error {
	r.mu.Lock()
	gate := r.gates[method]
	r.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-gate:
		return nil
	}
}

func (r *gatedRuntime) Pull(ctx context.Context, ref string, options rt.PullOptions) (rt.Image, error) {
	options.Progress(rt.Progress{Done: 62, Total: 100})
	if err := r.pass(ctx, "Pull"); err != nil {
		return rt.Image{}, err
	}
	return r.Runtime.Pull(ctx, ref, options)
}

func (r *gatedRuntime) Start(ctx context.Context, spec rt.Container) error {
	if err := r.pass(ctx, "Start"); err != nil {
		return err
	}
	return r.Runtime.Start(ctx, spec)
}

// Containers answers late what was so when it was asked.
func (r *gatedRuntime) Containers(ctx context.Context) ([]rt.Status, error) {
	list, err := r.Runtime.Containers(ctx)
	if err == nil {
		err = r.pass(ctx, "Containers")
	}
	return list, err
}

func TestDeletedWhilePulling(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Containers[0].Image = "other:1"
		release := w.runtime.hold("Pull")
		defer release()
		w.start()
		w.bind(pod)
		w.wantState(pod, "Pending main=ContainerCreating,0")
		w.delete(pod, 30)
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not stopped")
		}
		w.unbind(pod)
		w.wantNothing(pod)
	})
}

func TestImageComesWhilePulling(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Containers[0].Image = "other:1"
		release := w.runtime.hold("Pull")
		defer release()
		w.start()
		w.bind(pod)
		w.runtime.AddImage(rt.Image{Ref: "other:1", Cmd: []string{"/other"}})
		w.images <- struct{}{}
		synctest.Wait()
		w.wantState(pod, "Running main=running,ready,0")
	})
}

// TestImagesAreLoading: what runs is taken over while the node loads images, and
// what needs one that is not there asks for it when they are loaded.
func TestImagesAreLoading(t *testing.T) {
	inWorld(t, func(w *world) {
		there, comes, pulls, never := newPod("there", "main"), newPod("comes", "main"), newPod("pulls", "main"), newPod("never", "main")
		comes.Spec.Containers[0].Image = "comes:1"
		pulls.Spec.Containers[0].Image = "pulled:1"
		never.Spec.Containers[0].Image, never.Spec.Containers[0].ImagePullPolicy = "none:1", corev1.PullNever
		w.loaded = make(chan struct{})
		w.start()
		w.bind(there, comes, pulls, never)
		w.wantState(there, "Running main=running,ready,0")
		for _, pod := range []*corev1.Pod{comes, pulls, never} {
			w.wantState(pod, "Pending main=ContainerCreating,0")
		}
		if got := w.said(comes).Status.ContainerStatuses[0].State.Waiting.Message; got != "Waiting: the node is loading its images" {
			t.Errorf("it says %q", got)
		}
		w.runtime.AddImage(rt.Image{Ref: "comes:1", Cmd: []string{"/comes"}})
		w.images <- struct{}{}
		synctest.Wait()
		w.wantState(comes, "Running main=running,ready,0")
		w.pass(time.Minute)
		if got := w.runtime.Calls("Pull"); got != 0 {
			t.Errorf("%d pulls while images were loaded", got)
		}
		close(w.loaded)
		synctest.Wait()
		w.wantState(pulls, "Pending main=ErrImagePull,0")
		w.wantState(never, "Pending main=ErrImageNeverPull,0")
		if got := w.runtime.Calls("Pull"); got != 1 {
			t.Errorf("%d pulls when they were, want 1", got)
		}
	})
}

func TestDeletedWhileStarting(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main", "side")
		release := w.runtime.hold("Start")
		w.start()
		w.bind(pod)
		w.delete(pod, 30)
		release()
		w.pass(time.Second)
		if got := w.runtime.Calls("Start"); got != 1 {
			t.Errorf("%d starts", got)
		}
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not stopped")
		}
		w.wantNothing(pod)
	})
}

func TestDeletedWhileWaitingToStart(t *testing.T) {
	inWorld(t, func(w *world) {
		release := w.runtime.hold("Start")
		w.start()
		for _, name := range []string{"a", "b", "c", "d"} {
			w.bind(newPod(name, "main"))
		}
		late := newPod("late", "main")
		w.bind(late)
		w.delete(late, 30)
		release()
		w.pass(time.Millisecond)
		if got := w.runtime.Calls("Start"); got != 4 {
			t.Errorf("%d starts", got)
		}
		w.wantNothing(late)
	})
}

func TestStartWorkers(t *testing.T) {
	inWorld(t, func(w *world) {
		release := w.runtime.hold("Start")
		w.start()
		var pods []*corev1.Pod
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			pod := newPod(name, "main")
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 60}}}
			pods = append(pods, pod)
			w.bind(pod)
		}
		release() // hooks hold nobody up
		if got := w.runtime.Calls("Start"); got != len(pods) {
			t.Errorf("%d starts", got)
		}
		w.pass(time.Minute)
		for _, pod := range pods {
			w.wantState(pod, "Running main=running,ready,0")
		}
	})
}

// A list that was made before a start, and is answered after it, must not have
// the container started again; nor one made before a removal bring it back.
func TestListFromBefore(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		release := w.runtime.hold("Containers")
		w.pass(resync)
		w.bind(pod)
		release()
		w.pass(time.Second)
		if w.runtime.Calls("Start") != 1 {
			t.Errorf("%d starts", w.runtime.Calls("Start"))
		}
		w.wantState(pod, "Running main=running,ready,0")

		w.exit(pod, "main", 1)
		release = w.runtime.hold("Containers")
		w.pass(resync)
		w.delete(pod, 0)
		w.pass(time.Second)
		release()
		w.pass(time.Minute)
		w.unbind(pod)
		w.wantNothing(pod)
		if got := w.runtime.Calls("Start"); got != 2 {
			t.Errorf("%d starts", got)
		}
	})
}

// A container that exits before its start is noted must not be taken for
// running until the next list.
func TestExitsAtOnce(t *testing.T) {
	o := newObserver(nil, nil, func([]string) {}, func() {})
	started := rt.Status{ID: "x", Pod: rt.PodRef{UID: "u"}, State: rt.Running}
	exited := started
	exited.State = rt.Exited
	for name, steps := range map[string]func(){
		"seen before":  func() { o.take([]rt.Status{exited}, o.stamp); o.set(started) },
		"seen between": func() { began := o.stamp; o.set(started); o.take([]rt.Status{exited}, began) },
	} {
		o.take(nil, o.stamp)
		steps()
		if got, _ := o.containers("u"); len(got) != 1 || got[0].State != rt.Exited {
			t.Errorf("%s: %+v", name, got)
		}
	}
	began := o.stamp
	o.forget("u", "x")
	o.take([]rt.Status{exited}, began)
	if got, _ := o.containers("u"); len(got) != 0 {
		t.Errorf("removed container is back: %+v", got)
	}
}
