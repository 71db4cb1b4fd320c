package nodeagent

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
)

func podWithImages(pull corev1.PullPolicy) *corev1.Pod {
	pod := podOf("near:1", corev1.PullAlways)
	pod.Spec.Volumes = []corev1.Volume{{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "model:1", PullPolicy: pull}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "model", MountPath: "/model"}}
	return pod
}

// The image of a volume is pulled by its own policy before the container that
// mounts it starts; that it is not there is told as of the container's own.
func TestImageVolume(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.AddRemoteImage(rt.Image{Ref: "near:1", Cmd: []string{"/near"}})
		pod := podWithImages(corev1.PullAlways)
		w.start()
		w.bind(pod)
		w.pass(3 * time.Second)
		w.wantState(pod, "Pending main=ImagePullBackOff,0")
		w.wantEvent(pod, `Failed: Failed to pull image "model:1"`)
		w.runtime.AddRemoteImage(rt.Image{Ref: "model:1"})
		w.pass(20 * time.Second)
		w.wantState(pod, "Running main=running,ready,0")
		uid := string(pod.UID)
		target := w.volumes.Dir(uid, "model")
		want := map[string]rt.ImageMount{target: {PodUID: uid, Volume: "model", Image: "model:1", Target: target}}
		if diff := cmp.Diff(want, w.runtime.Mounted()); diff != "" {
			t.Errorf("mounted (-want +got):\n%s", diff)
		}
		spec, _ := w.runtime.Spec(w.runtime.Find(uid, "main"))
		mounts := map[string]rt.Mount{}
		for _, m := range spec.Mounts {
			mounts[m.Destination] = m
		}
		if diff := cmp.Diff(rt.Mount{Source: target, Destination: "/model", ReadOnly: true, NoExec: true}, mounts["/model"]); diff != "" {
			t.Errorf("mount (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"near:1", "model:1"}, imagesOf(pod)); diff != "" {
			t.Errorf("kept from being collected (-want +got):\n%s", diff)
		}
		w.unbind(pod)
		w.pass(time.Minute)
		if left := w.runtime.Mounted(); len(left) > 0 {
			t.Errorf("left after the pod: %v", left)
		}
	})
}

// A pod that has ended holds no image any more, although it is still there.
func TestImageVolumeOfEndedPod(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.AddImage(rt.Image{Ref: "near:1", Cmd: []string{"/near"}})
		w.runtime.AddImage(rt.Image{Ref: "model:1"})
		pod := podWithImages(corev1.PullIfNotPresent)
		pod.Spec.RestartPolicy, pod.Spec.Containers[0].ImagePullPolicy = corev1.RestartPolicyNever, corev1.PullNever
		w.start()
		w.bind(pod)
		if n := len(w.runtime.Mounted()); n != 1 {
			t.Errorf("%d images mounted", n)
		}
		w.runtime.FailNext("ReleaseImages", errors.New("containerd is away"))
		w.exit(pod, "main", 0)
		w.pass(10 * time.Second)
		w.wantState(pod, "Succeeded main=Completed,0")
		if left := w.runtime.Mounted(); len(left) > 0 {
			t.Errorf("left after its end: %v", left)
		}
	})
}

// A policy of Never says so, and pulls nothing.
func TestImageVolumeIsNeverPulled(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.AddRemoteImage(rt.Image{Ref: "near:1", Cmd: []string{"/near"}})
		w.runtime.AddRemoteImage(rt.Image{Ref: "model:1"})
		pod := podWithImages(corev1.PullNever)
		w.start()
		w.bind(pod)
		w.wantState(pod, "Pending main=ErrImageNeverPull,0")
		if n := w.runtime.Calls("Pull"); n != 1 {
			t.Errorf("%d pulls, want the container's own", n)
		}
	})
}
