package namespaces_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/namespaces"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func start(w *controllertest.World) {
	w.Start(func(ctx context.Context) error {
		return namespaces.Run(ctx, namespaces.Config{Writer: w.Writer, Logger: w.Logger})
	})
}

func want(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	if diff := cmp.Diff(want, w.Keys("/registry/namespaces/")); diff != "" {
		w.T.Errorf("%s: namespaces (-want +got):\n%s", what, diff)
	}
}

func in(namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: "x"}
}

// TestTerminating empties a namespace, waits for the pod that ends gracefully,
// and then removes it; another one is not touched.
func TestTerminating(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		want(w, "at the start", "default", "kube-system")
		key := schema.Namespaces.Key("", "shop")
		w.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		for _, ns := range []string{"shop", "default"} {
			w.Create(&corev1.ReplicationController{ObjectMeta: in(ns)})
			w.Create(&corev1.ConfigMap{ObjectMeta: in(ns)})
			w.Create(&corev1.Service{ObjectMeta: in(ns)})
			w.Create(&corev1.ServiceAccount{ObjectMeta: in(ns)})
			w.Create(&corev1.PersistentVolumeClaim{ObjectMeta: in(ns)})
			w.Create(&rbacv1.Role{ObjectMeta: in(ns)})
			w.Create(&rbacv1.RoleBinding{ObjectMeta: in(ns)})
			w.Create(&coordinationv1.Lease{ObjectMeta: in(ns)})
			w.Create(&corev1.Event{ObjectMeta: in(ns)})
			w.Create(&corev1.Pod{ObjectMeta: in(ns), Spec: corev1.PodSpec{NodeName: "n1"}})
		}
		w.Delete(key, nil)
		want(w, "while a pod ends", "default", "kube-system", "shop")
		pod := w.Get(schema.Pods.Key("shop", "x"))
		if pod == nil || pod.GetDeletionTimestamp() == nil {
			t.Fatalf("pod: %v", pod)
		}
		w.Delete(schema.KeyOf(pod), new(int64))
		want(w, "emptied", "default", "kube-system")
		for _, kind := range schema.Kinds {
			if left := w.Keys(kind.Prefix("shop")); kind.Namespaced && len(left) != 0 {
				t.Errorf("left of %s: %v", kind.Resource, left)
			}
			if got := w.Keys(kind.Prefix("default")); kind == schema.ReplicationControllers && len(got) != 1 {
				t.Errorf("%s in default: %v", kind.Resource, got)
			}
		}
	})
}

// TestCreatedInTheLastMoment removes what came to be in a namespace that is
// gone.
func TestCreatedInTheLastMoment(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		data, err := schema.Encode(&corev1.ConfigMap{ObjectMeta: in("gone")})
		if err != nil {
			t.Fatal(err)
		}
		w.Commit(registry.Put("/registry/configmaps/gone/x", data))
		start(w)
		if left := w.Keys("/registry/configmaps/"); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
