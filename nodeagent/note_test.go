package nodeagent

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	"github.com/evenkeel/evenkeel/nodeagent/pressure"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func TestNote(t *testing.T) {
	five := int64(5)
	second := time.Second
	for name, n := range map[string]note{
		"none":     {},
		"hook":     {Hook: true},
		"replaced": {Since: noon, Grace: &five, Replace: true},
		"doom":     {Since: noon, Doom: &Doom{Reason: "Evicted", Message: "memory", Grace: &second, Disrupted: true}},
	} {
		if diff := cmp.Diff(n, noteOf(&rt.Status{Note: n.String()})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, text := range []string{"x", "<", "\x00", "é"} {
		long := note{Doom: &Doom{Reason: "Evicted", Message: strings.Repeat(text, 9000)}}
		read := noteOf(&rt.Status{Note: long.String()})
		if size := len(long.String()); size > maxNote || read.Doom == nil || read.Doom.Reason != "Evicted" || read.Doom.Message == "" {
			t.Errorf("of %q a note has %d bytes, and says %+v", text, size, read)
		}
	}
	if got := noteOf(&rt.Status{Note: "of another make"}); got != (note{}) {
		t.Errorf("read %+v", got)
	}
}

// A container that was stopped to be started anew is, although it ended well
// while no agent was there.
func TestReplacedWithoutAgent(t *testing.T) {
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/well"}}}, PeriodSeconds: 1, FailureThreshold: 1}
	tests := map[string]struct {
		policy corev1.RestartPolicy
		begin  func(w *world, pod *corev1.Pod)
	}{
		"liveness": {corev1.RestartPolicyOnFailure, func(_ *world, pod *corev1.Pod) { pod.Spec.Containers[0].LivenessProbe = probe }},
		"startup":  {corev1.RestartPolicyOnFailure, func(_ *world, pod *corev1.Pod) { pod.Spec.Containers[0].StartupProbe = probe }},
		"image": {corev1.RestartPolicyNever, func(w *world, pod *corev1.Pod) {
			w.bind(pod)
			pod.Spec.Containers[0].Image = "app:2"
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.runtime.AddImage(rt.Image{Ref: "app:2", Cmd: []string{"/app"}})
				w.runtime.OnExec(func(context.Context, string, []string) (int, []byte, error) { return 1, []byte("ill"), nil })
				w.runtime.IgnoreSIGTERM("main")
				pod := newPod("a", "main", "side")
				pod.Spec.RestartPolicy = test.policy
				w.start()
				test.begin(w, pod)
				w.bind(pod.DeepCopy())
				w.pass(2 * time.Second)
				if w.runtime.Calls("Signal") != 1 {
					t.Fatalf("not stopped\n%s", w.runtime.Dump())
				}
				w.kill()
				w.exit(pod, "main", 0)
				w.runtime.OnExec(nil)
				w.start()
				w.pass(2 * time.Second)
				if spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "main")); spec.Attempt != 1 || spec.Image != pod.Spec.Containers[0].Image {
					t.Errorf("attempt %d runs %s\n%s", spec.Attempt, spec.Image, w.state(pod))
				}
			})
		})
	}
}

// The next agent goes on with a stop where the one before was killed: a
// container does not get its time again with each agent.
func TestStopGoesOn(t *testing.T) {
	const lapse = 400 * time.Millisecond // signals and exits are known a little later
	grace := int64(8)
	tests := map[string]struct {
		begin func(w *world, pod *corev1.Pod)
		whole time.Duration // that the container has
	}{
		"deleted": {func(w *world, pod *corev1.Pod) { w.delete(pod, 20) }, 20 * time.Second},
		"ill": {func(w *world, pod *corev1.Pod) {
			w.runtime.OnExec(func(context.Context, string, []string) (int, []byte, error) { return 1, nil, nil })
			w.pass(time.Second)
			w.runtime.OnExec(nil) // it is well again, but on its way
		}, 8 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.runtime.IgnoreSIGTERM("main")
				pod := newPod("a", "main")
				pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/well"}}},
					PeriodSeconds: 1, FailureThreshold: 1, TerminationGracePeriodSeconds: &grace,
				}
				w.start()
				w.bind(pod)
				test.begin(w, pod)
				began := time.Now()
				w.pass(2 * time.Second)
				for range 2 {
					w.kill()
					w.pass(time.Second)
					w.start()
				}
				w.pass(test.whole - time.Since(began) - lapse)
				if w.runtime.Calls("Kill") != 0 {
					t.Errorf("killed before its time was over, after %v", time.Since(began))
				}
				w.pass(2 * lapse)
				if w.runtime.Calls("Kill") != 1 {
					t.Errorf("not killed in time\n%s", w.runtime.Dump())
				}
			})
		})
	}
}

// A postStart hook that ended with its agent is run again by the next one, and
// one that is through is not.
func TestHookGoesOn(t *testing.T) {
	inWorld(t, func(w *world) {
		var runs, through atomic.Int64
		w.runtime.OnExec(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
			runs.Add(1)
			if wait(ctx, 10*time.Second); ctx.Err() == nil {
				through.Add(1)
			}
			return 0, nil, ctx.Err()
		})
		pod := newPod("a", "main", "next")
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hook"}}}}
		w.start()
		w.bind(pod)
		w.pass(5 * time.Second)
		w.kill()
		w.start()
		w.wantState(pod, "Pending main=running,0 next=ContainerCreating,0")
		w.pass(11 * time.Second)
		w.wantState(pod, "Running main=running,ready,0 next=running,ready,0")
		w.kill()
		w.start()
		w.pass(time.Minute)
		w.wantState(pod, "Running main=running,ready,0 next=running,ready,0")
		if runs.Load() != 2 || through.Load() != 1 {
			t.Errorf("the hook was run %d times, %d of them to its end", runs.Load(), through.Load())
		}
	})
}

// A hook that fails after its agent was killed kills the container, once.
func TestHookFailsLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.OnExec(func(ctx context.Context, _ string, _ []string) (int, []byte, error) {
			wait(ctx, 10*time.Second)
			return 1, nil, ctx.Err()
		})
		pod := newPod("a", "main")
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/hook"}}}}
		w.start()
		w.bind(pod)
		w.pass(5 * time.Second)
		w.kill()
		w.start()
		w.pass(time.Minute)
		w.wantState(pod, "Failed main=Error,0")
		if got := w.runtime.Calls("Exec"); got != 2 {
			t.Errorf("the hook was run %d times", got)
		}
	})
}

// A pod that is being evicted is, whatever becomes of its agent.
func TestEvictedWithoutAgent(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.withEviction("memory.available<100Mi", images.Thresholds{})
				w.runtime.IgnoreSIGTERM("main")
				pod := podNamed("a", "")
				pod.Spec.RestartPolicy = policy
				w.start()
				w.bind(pod)
				w.meter.say(available(pressure.MemoryAvailable, 50<<20))
				w.pass(10*time.Second + time.Millisecond)
				w.kill()
				w.exit(pod, "main", 0)
				w.meter.say(nil)
				w.start()
				synctest.Wait()
				w.wantEvicted(pod, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ", true)
				if got := w.runtime.Calls("Start"); got != 1 {
					t.Errorf("%d starts", got)
				}
			})
		})
	}
}
