package serviceaccounts_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/serviceaccounts"
	"github.com/evenkeel/evenkeel/schema"
)

func TestEveryNamespace(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}, AutomountServiceAccountToken: new(false)})
		w.Start(func(ctx context.Context) error {
			return serviceaccounts.Run(ctx, serviceaccounts.Config{Writer: w.Writer, Logger: w.Logger, RootCA: func() []byte { return []byte("ca") }})
		})
		w.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		want := []string{"default/default", "shop/default"}
		if diff := cmp.Diff(want, w.Keys(schema.ServiceAccounts.Prefix(""))); diff != "" {
			t.Errorf("accounts (-want +got):\n%s", diff)
		}
		if sa := w.Get(schema.ServiceAccounts.Key("default", "default")).(*corev1.ServiceAccount); sa.AutomountServiceAccountToken == nil {
			t.Error("an account that was there has been changed")
		}
		key := schema.ConfigMaps.Key("shop", "kube-root-ca.crt")
		w.Change(key, func(o schema.Object) { o.(*corev1.ConfigMap).Data["ca.crt"] = "other" })
		w.Delete(schema.ServiceAccounts.Key("shop", "default"), nil)
		if got := w.Get(key).(*corev1.ConfigMap).Data; cmp.Diff(map[string]string{"ca.crt": "ca"}, got) != "" {
			t.Errorf("the authority is %v", got)
		}
		if w.Get(schema.ServiceAccounts.Key("shop", "default")) == nil {
			t.Error("a deleted account was not made again")
		}
		w.Delete(schema.Namespaces.Key("", "shop"), nil)
		w.Delete(key, nil)
		if w.Get(key) != nil {
			t.Error("made in a namespace that ends")
		}
	})
}
