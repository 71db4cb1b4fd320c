package nodeagent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

func TestImageComes(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Containers[0].Image = "other:1"
		w.start()
		w.bind(pod)
		w.wantState(pod, "Pending main=ErrImagePull,0")
		w.pass(5 * time.Second)
		w.wantState(pod, "Pending main=ImagePullBackOff,0")
		w.runtime.AddImage(rt.Image{Ref: "other:1", Cmd: []string{"/other"}})
		w.images <- struct{}{}
		synctest.Wait()
		w.wantState(pod, "Running main=running,ready,0")
	})
}

// TestPodMended: a pod that is changed is tried again at once, however long its
// failures have kept it waiting.
func TestPodMended(t *testing.T) {
	for name, test := range map[string]struct {
		breaks, mends func(pod *corev1.Pod)
		waiting       string
	}{
		"image": {
			func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "other:1" },
			func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = "app:1" },
			"Pending main=ImagePullBackOff,0",
		},
		"annotation": {
			func(pod *corev1.Pod) {
				pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
				c := &pod.Spec.Containers[0]
				c.Env = []corev1.EnvVar{{Name: "AT", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['at']"}}}}
				c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPathExpr: "/$(AT)"}}
			},
			func(pod *corev1.Pod) {
				pod.Spec.Containers[0].VolumeMounts[0].SubPathExpr = "$(AT)"
				pod.Annotations = map[string]string{"at": "here"}
			},
			"Pending main=CreateContainerConfigError,0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				test.breaks(pod)
				w.start()
				w.bind(pod)
				w.pass(time.Hour + time.Second)
				w.wantState(pod, test.waiting)
				pod = pod.DeepCopy()
				test.mends(pod)
				w.bind(pod)
				w.wantState(pod, "Running main=running,ready,0")
				w.delete(pod, 0)
				w.unbind(pod)
				w.wantNothing(pod)
			})
		})
	}
}

func TestReferenceComes(t *testing.T) {
	for _, kind := range []string{"env", "volume"} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				waiting := "Pending main=CreateContainerConfigError,0"
				if kind == "env" {
					pod.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
				} else {
					waiting = "Pending main=ContainerCreating,0"
					pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
				}
				w.start()
				w.bind(pod)
				w.wantState(pod, waiting)
				w.bind(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"COLOUR": "red"}})
				w.wantState(pod, "Running main=running,ready,0")
			})
		})
	}
}

// TestReferenceFollows sends what a pod's volume is made of right after the
// pod, which is prepared once.
func TestReferenceFollows(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
		w.start()
		w.bind(pod)
		w.bind(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other"}})
		w.pass(sentSoon - time.Millisecond)
		w.bind(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}})
		w.wantState(pod, "Running main=running,ready,0")
		if w.network.setups != 1 {
			t.Errorf("prepared %d times", w.network.setups)
		}
	})
}

func TestForcedDeletion(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		next := newPod("a", "main")
		next.UID = "uid-next"
		w.bind(next) // in its place, at once
		w.wantState(next, "Running main=running,ready,0")
		w.pass(30*time.Second - time.Millisecond)
		if w.runtime.Calls("Kill") != 0 {
			t.Error("killed before its grace was over")
		}
		w.pass(time.Second)
		w.wantNothing(pod)
		if got := w.said(next).UID; got != next.UID {
			t.Errorf("status is of pod %s", got)
		}
		w.wantState(next, "Running main=running,ready,0")
	})
}

func TestShorterGrace(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.runtime.IgnoreSIGTERM("main")
		w.start()
		w.bind(pod)
		w.delete(pod, 300)
		w.pass(10 * time.Second)
		w.delete(pod, 0)
		w.pass(time.Millisecond)
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Errorf("not stopped at once\n%s", w.runtime.Dump())
		}
	})
}

func TestDeletedWhen(t *testing.T) {
	tests := map[string]func(w *world, pod *corev1.Pod){
		"waiting for an image": func(w *world, pod *corev1.Pod) {
			pod.Spec.Containers[0].Image = "nowhere:1"
			w.bind(pod)
		},
		"never prepared": func(w *world, pod *corev1.Pod) {
			w.network.cidrErr = errors.New("no such device")
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}}}}}
			w.bind(pod)
		},
		"an init container runs": func(w *world, pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "app:1"}}
			w.bind(pod)
			w.wantState(pod, "Pending init=running,0 main=PodInitializing,0")
		},
		"backing off": func(w *world, pod *corev1.Pod) {
			w.bind(pod)
			w.exit(pod, "main", 1)
			w.exit(pod, "main", 1)
		},
		"a hook runs": func(w *world, pod *corev1.Pod) {
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 500}}}
			w.bind(pod)
			w.wantState(pod, "Running main=running,0")
		},
		"deleted before it was seen": func(*world, *corev1.Pod) {},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				w.start()
				prepare(w, pod)
				w.delete(pod, 30)
				w.pass(time.Second)
				if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
					t.Errorf("not stopped\n%s", w.runtime.Dump())
				}
				w.wantNothing(pod)
				w.unbind(pod)
				w.kill()
			})
		})
	}
}

func TestEndedPod(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main", "side")
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		w.start()
		w.bind(pod)
		w.exit(pod, "main", 3)
		w.wantState(pod, "Running main=Error,0 side=running,ready,0")
		w.exit(pod, "side", 0)
		w.wantState(pod, "Failed main=Error,0 side=Completed,0")
		if sandboxes, _ := w.network.List(); len(sandboxes) != 0 {
			t.Error("an ended pod keeps its address")
		}
		if w.runtime.Calls("Remove") != 0 {
			t.Error("containers of an ended pod are gone before it is deleted")
		}
		written := w.keysOf(schema.PodStatusPrefix)
		w.kill()
		w.start()
		w.pass(time.Minute)
		if diff := cmp.Diff(written, w.keysOf(schema.PodStatusPrefix)); diff != "" {
			t.Errorf("status written after the restart: %s", diff)
		}
		w.delete(pod, 30)
		w.wantNothing(pod)
		w.wantState(pod, "Failed main=Error,0 side=Completed,0")
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not said to be stopped")
		}
	})
}

func TestHostNetwork(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		pod.Spec.HostNetwork = true
		w.start()
		w.bind(pod)
		if got := w.said(pod).Status.PodIP; got != "192.168.0.1" {
			t.Errorf("pod IP is %q", got)
		}
		spec, _ := w.runtime.Spec(w.runtime.Find(string(pod.UID), "main"))
		if spec.Hostname != node || spec.Namespaces.Net != "" {
			t.Errorf("hostname %q, network %q", spec.Hostname, spec.Namespaces.Net)
		}
	})
}

func TestImageChange(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.runtime.AddImage(rt.Image{Ref: "app:2", Cmd: []string{"/app"}})
				pod := newPod("a", "main", "side")
				pod.Spec.RestartPolicy = policy
				w.start()
				w.bind(pod)
				for i := range 3 {
					pod = pod.DeepCopy()
					pod.Spec.Containers[0].Image = []string{"app:2", "app:1", "app:2"}[i]
					w.bind(pod)
					w.wantState(pod, fmt.Sprintf("Running main=running,ready,%d side=running,ready,0", i+1))
				}
			})
		})
	}
}

func TestTeardownIsTriedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		w.network.mu.Lock()
		w.network.stuck = true
		w.network.mu.Unlock()
		w.delete(pod, 1)
		w.pass(20 * time.Second)
		if w.said(pod).Annotations[schema.StoppedAnnotation] != "" {
			t.Error("said to be stopped with its network still there")
		}
		w.network.mu.Lock()
		w.network.stuck = false
		w.network.mu.Unlock()
		w.pass(time.Minute)
		w.wantNothing(pod)
		if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
			t.Error("not said to be stopped")
		}
	})
}

func TestPreStop(t *testing.T) {
	sleep := func(seconds int64) *corev1.Lifecycle {
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}}
	}
	tests := map[string]struct {
		hook, grace int64
		stubborn    bool
		want        time.Duration // until the container is gone
	}{
		"hook, then SIGTERM":            {hook: 5, grace: 30, want: drainDelay + 5*time.Second},
		"hook, SIGTERM, SIGKILL":        {hook: 5, grace: 30, stubborn: true, want: 30 * time.Second},
		"hook outlasts the grace":       {hook: 50, grace: 30, want: 30 * time.Second},
		"and the container its SIGTERM": {hook: 50, grace: 30, stubborn: true, want: 32 * time.Second},
		"no grace":                      {hook: 5, grace: 0, want: 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				pod := newPod("a", "main")
				pod.Spec.Containers[0].Lifecycle = sleep(test.hook)
				if test.stubborn {
					w.runtime.IgnoreSIGTERM("main")
				}
				w.start()
				w.bind(pod)
				w.delete(pod, test.grace)
				if test.want > 0 {
					w.pass(test.want - time.Millisecond)
					if w.said(pod).Annotations[schema.StoppedAnnotation] != "" {
						t.Error("stopped too soon")
					}
					w.pass(time.Millisecond)
				}
				if w.said(pod).Annotations[schema.StoppedAnnotation] == "" {
					t.Error("not stopped in time")
				}
			})
		})
	}
}

// A signal that cannot be sent must not cost the container its grace.
func TestSignalFails(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := newPod("a", "main")
		w.start()
		w.bind(pod)
		w.runtime.FailNext("Signal", fmt.Errorf("signal: %w", rt.ErrUnavailable))
		w.delete(pod, 30)
		w.pass(2 * time.Second)
		if w.runtime.Calls("Signal") != 2 || w.runtime.Calls("Kill") != 0 {
			t.Errorf("%d signals, %d kills", w.runtime.Calls("Signal"), w.runtime.Calls("Kill"))
		}
		w.wantNothing(pod)
	})
}
