package nodeagent

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/nodeagent/images"
	rt "github.com/evenkeel/evenkeel/nodeagent/runtime"
	"github.com/evenkeel/evenkeel/schema"
)

// events lists the events of a pod as "<reason>: <message>".
func (w *world) events(pod *corev1.Pod) (out []string) {
	w.t.Helper()
	kvs, _, err := w.store.List(w.t.Context(), schema.Events.Key("", "").Path(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kv := range kvs {
		obj, err := schema.DecodeObject(kv.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		if e, ok := obj.(*corev1.Event); ok && e.InvolvedObject.UID == pod.UID {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

func (w *world) wantEvent(pod *corev1.Pod, text string) {
	w.t.Helper()
	if all := w.events(pod); !strings.Contains(strings.Join(all, "\n"), text) {
		w.t.Errorf("no event %q among\n%s", text, strings.Join(all, "\n"))
	}
}

func podOf(image string, policy corev1.PullPolicy) *corev1.Pod {
	pod := newPod("a", "main")
	pod.Spec.Containers[0].Image, pod.Spec.Containers[0].ImagePullPolicy = image, policy
	return pod
}

func (w *world) waiting(pod *corev1.Pod) corev1.ContainerStateWaiting {
	w.t.Helper()
	s := w.said(pod).Status.ContainerStatuses
	if len(s) == 0 || s[0].State.Waiting == nil {
		w.t.Fatalf("pod does not wait: %+v", s)
	}
	return *s[0].State.Waiting
}

func TestPullIsTold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.runtime.AddRemoteImage(rt.Image{Ref: "far:1", Cmd: []string{"/far"}, Size: 4096})
		pod := podOf("far:1", corev1.PullIfNotPresent)
		release := w.runtime.hold("Pull")
		w.start()
		w.bind(pod)
		if got := w.waiting(pod); got.Reason != "ContainerCreating" {
			t.Errorf("at first %+v", got)
		}
		w.pass(3 * time.Second)
		want := corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: "Pulling 62 %"}
		if diff := cmp.Diff(want, w.waiting(pod)); diff != "" {
			t.Errorf("on the way (-want +got):\n%s", diff)
		}
		release()
		w.wantState(pod, "Running main=running,ready,0")
		w.wantEvent(pod, `Pulling: Pulling image "far:1"`)
		w.wantEvent(pod, `Pulled: Successfully pulled image "far:1" in 3s (3s including waiting). Image size: 4096 bytes.`)
	})
}

// A pull that goes wrong is reported as such, then as left alone, for 10 s,
// 20 s and so on.
func TestPullBacksOff(t *testing.T) {
	inWorld(t, func(w *world) {
		pod := podOf("far:1", corev1.PullIfNotPresent)
		w.start()
		w.bind(pod)
		var tried []int
		for range 75 {
			if n := w.runtime.Calls("Pull"); len(tried) == 0 || n != tried[len(tried)-1] {
				tried = append(tried, n)
				if got := w.waiting(pod); got.Reason != reasonPull {
					t.Errorf("after pull %d: %+v", n, got)
				}
			}
			w.pass(time.Second)
		}
		if diff := cmp.Diff([]int{1, 2, 3, 4}, tried); diff != "" { // after 0, 10, 30 and 70 s
			t.Errorf("pulls (-want +got):\n%s", diff)
		}
		got := w.waiting(pod)
		if got.Reason != reasonPullWait || !strings.HasPrefix(got.Message, `Back-off pulling image "far:1": ErrImagePull: `) {
			t.Errorf("in between %+v", got)
		}
		w.wantEvent(pod, `BackOff: Back-off pulling image "far:1"`)
		w.wantEvent(pod, `Failed: Failed to pull image "far:1"`)
	})
}

func pullSecret(config string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "hub", UID: "hub-1"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}
}

// A private image is pulled when the pod's secret comes, at once, and another
// pod that has no secret does not get it although it is there.
func TestPullWithSecret(t *testing.T) {
	inWorld(t, func(w *world) {
		config := `{"auths": {"reg.example": {"username": "u", "password": "p"}}}`
		found, err := images.Credentials("reg.example/app:1", []*corev1.Secret{pullSecret(config)})
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		w.runtime.AddRemoteImage(rt.Image{Ref: "reg.example/app:1", Cmd: []string{"/app"}, Access: rt.Access{Keys: found[0].Keys()}})
		pod := podOf("reg.example/app:1", corev1.PullIfNotPresent)
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "hub"}}
		w.start()
		w.bind(pod)
		w.pass(3 * time.Second)
		w.wantState(pod, "Pending main=ImagePullBackOff,0")
		w.wantEvent(pod, "FailedToRetrieveImagePullSecret: ")
		w.bind(pullSecret(config))
		w.wantState(pod, "Running main=running,ready,0")

		for _, policy := range []corev1.PullPolicy{corev1.PullIfNotPresent, corev1.PullNever} {
			stranger := podOf("reg.example/app:1", policy)
			stranger.Name = "b-" + strings.ToLower(string(policy))
			stranger.UID = types.UID(stranger.Name)
			w.bind(stranger)
			want := map[corev1.PullPolicy]string{corev1.PullIfNotPresent: "ErrImagePull", corev1.PullNever: "ErrImageNeverPull"}[policy]
			w.wantState(stranger, "Pending main="+want+",0")
		}
		friend := podOf("reg.example/app:1", corev1.PullIfNotPresent)
		friend.Name, friend.UID, friend.Spec.ImagePullSecrets = "c", "c-uid", pod.Spec.ImagePullSecrets
		before := w.runtime.Calls("Pull")
		w.bind(friend)
		w.wantState(friend, "Running main=running,ready,0")
		if w.runtime.Calls("Pull") != before {
			t.Error("a pod with the secret pulled again what is there")
		}
	})
}
