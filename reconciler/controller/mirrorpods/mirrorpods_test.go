package mirrorpods

import (
	"context"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func static(uid string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-n1", UID: types.UID(uid), Annotations: map[string]string{schema.ConfigSourceAnnotation: "file"}},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "web:1"}}},
	}
}

// show is what the node's agent writes.
func show(w *controllertest.World, pod *corev1.Pod) {
	w.T.Helper()
	path := schema.StaticPodsPrefix + "n1/" + pod.Namespace + "/" + pod.Name
	data, err := schema.Encode(pod)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Commit(registry.Put(path, data))
	synctest.Wait()
}

func mirror(w *controllertest.World) *corev1.Pod {
	w.T.Helper()
	synctest.Wait()
	pod, _ := w.Writer.Mirror.Get(schema.Pods.Key("default", "web-n1")).(*corev1.Pod)
	return pod
}

func TestMirrors(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Start(func(ctx context.Context) error { return Run(ctx, Config{Writer: w.Writer, Logger: w.Logger}) })
		show(w, static("uid-1"))
		if mirror(w) != nil {
			t.Error("a mirror on a node that is not there")
		}
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		first := mirror(w)
		if first == nil || first.Annotations[schema.MirrorAnnotation] != "uid-1" || first.Spec.NodeName != "n1" || first.UID == "uid-1" {
			t.Fatalf("no mirror, or a wrong one: %v", first)
		}
		if owner := metav1.GetControllerOf(first); owner == nil || owner.Kind != "Node" {
			t.Errorf("owner %v, want the node", owner)
		}

		none := int64(0)
		w.Delete(schema.KeyOf(first), &none)
		if again := mirror(w); again == nil || again.UID == first.UID {
			t.Error("a deleted mirror did not come back")
		}

		show(w, static("uid-2"))
		if changed := mirror(w); changed == nil || changed.Annotations[schema.MirrorAnnotation] != "uid-2" {
			t.Errorf("the mirror is not of the changed pod: %v", changed)
		}

		w.Commit(registry.Delete(schema.StaticPodsPrefix + "n1/default/web-n1"))
		if left := mirror(w); left != nil {
			t.Errorf("mirror left: %v", left)
		}
	})
}

// A pod of the same name that is no mirror is its owner's.
func TestNameTaken(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		own := w.Create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-n1"}})
		w.Start(func(ctx context.Context) error { return Run(ctx, Config{Writer: w.Writer, Logger: w.Logger}) })
		show(w, static("uid-1"))
		if got := mirror(w); got == nil || got.UID != own.GetUID() {
			t.Errorf("the pod was replaced: %v", got)
		}
	})
}
