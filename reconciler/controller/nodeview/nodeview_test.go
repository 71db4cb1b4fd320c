package nodeview_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodeview"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name}
}

func podOn(node, name string) *corev1.Pod {
	optional := true
	p := &corev1.Pod{ObjectMeta: named(name)}
	p.Spec.NodeName = node
	p.Spec.Volumes = []corev1.Volume{
		{Name: "a", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm-volume"}}}},
		{Name: "b", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret-volume"}}},
	}
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	p.Spec.Containers = []corev1.Container{{
		Name: "c",
		Env: []corev1.EnvVar{
			{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "cm-env"}, Optional: &optional}}},
			{Name: "B", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "secret-env"}}}},
		},
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm-from"}}}},
	}}
	p.Spec.InitContainers = []corev1.Container{{
		Name: "i", EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "secret-from"}}}},
	}}
	return p
}

func start(w *controllertest.World) {
	w.Start(func(ctx context.Context) error {
		return nodeview.Run(ctx, nodeview.Config{Writer: w.Writer, Logger: w.Logger})
	})
}

// want checks which bindings there are.
func want(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	if diff := cmp.Diff(want, w.Keys(schema.BindingsPrefix), cmpopts.EquateEmpty()); diff != "" {
		w.T.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestView(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		for _, name := range []string{"cm-volume", "cm-env", "cm-from", "stranger"} {
			w.Create(&corev1.ConfigMap{ObjectMeta: named(name)})
		}
		for _, name := range []string{"secret-volume", "secret-env", "secret-from", "pull", "stranger"} {
			w.Create(&corev1.Secret{ObjectMeta: named(name)})
		}
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		start(w)
		pod := w.Create(podOn("n1", "web"))
		all := []string{
			"n1/configmaps/default/cm-env", "n1/configmaps/default/cm-from", "n1/configmaps/default/cm-volume", "n1/node", "n1/peers", "n1/pods/default/web",
			"n1/secrets/default/pull", "n1/secrets/default/secret-env", "n1/secrets/default/secret-from", "n1/secrets/default/secret-volume",
		}
		want(w, "a bound pod", all...)

		w.Change(schema.ConfigMaps.Key("default", "cm-env"), func(obj schema.Object) {
			obj.(*corev1.ConfigMap).Data = map[string]string{"k": "new"}
		})
		if got := bound[*corev1.ConfigMap](w, "n1/configmaps/default/cm-env"); got.Data["k"] != "new" {
			t.Errorf("changed config map: %v", got.Data)
		}
		w.Delete(schema.ConfigMaps.Key("default", "cm-env"), nil)
		want(w, "a deleted config map", all[1:]...)

		before := w.Revision()
		w.Status(pod.(*corev1.Pod), false)
		w.Report("n1", true)
		if after := w.Revision(); after != before+2 {
			t.Errorf("status and heartbeat made %d writes", after-before-2)
		}
		w.Delete(schema.KeyOf(pod), new(int64))
		want(w, "the pod gone", "n1/node", "n1/peers")
		w.Create(podOn("n1", "again"))
		w.Delete(schema.Nodes.Key("", "n1"), nil)
		want(w, "the node gone")
	})
}

// TestPeers keeps every node's list of the others.
func TestPeers(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		for _, name := range []string{"n1", "n2", "n3"} {
			w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.244." + name[1:] + ".0/24"}})
		}
		address := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}
		w.Report("n2", true, func(n *corev1.Node) { n.Status.Addresses = []corev1.NodeAddress{address} })
		peer := func(name string, addresses ...corev1.NodeAddress) corev1.Node {
			return corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.244." + name[1:] + ".0/24"},
				Status: corev1.NodeStatus{Addresses: addresses},
			}
		}
		if diff := cmp.Diff([]corev1.Node{peer("n2", address), peer("n3")}, bound[*corev1.NodeList](w, "n1/peers").Items); diff != "" {
			t.Errorf("peers of n1 (-want +got):\n%s", diff)
		}
		w.Delete(schema.Nodes.Key("", "n3"), nil)
		if diff := cmp.Diff([]corev1.Node{peer("n1")}, bound[*corev1.NodeList](w, "n2/peers").Items); diff != "" {
			t.Errorf("peers of n2 (-want +got):\n%s", diff)
		}
	})
}

// TestRepair breaks bindings in every way.
func TestRepair(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		pod := w.Create(&corev1.Pod{ObjectMeta: named("web"), Spec: corev1.PodSpec{NodeName: "n1"}})
		path := schema.BindingPath("n1", schema.KeyOf(pod))
		right, err := w.Store.Get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		start(w)
		w.Revision()
		w.Commit(
			registry.Delete(path),
			registry.Put("/registry/bindings/n1/pods/default/ghost", []byte("x")),
			registry.Put("/registry/bindings/n2/pods/default/web", right.Value),
			registry.Delete("/registry/bindings/n1/node"),
		)
		want(w, "repaired", "n1/node", "n1/peers", "n1/pods/default/web")
		w.Commit(registry.Put(path, []byte("stale")))
		w.Revision()
		if kv, _ := w.Store.Get(t.Context(), path); string(kv.Value) != string(right.Value) {
			t.Error("a stale binding was left")
		}
	})
}

// TestClaims shows a node the claims of its pods, and the volumes that these
// come to be bound to.
func TestClaims(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		start(w)
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		p := &corev1.Pod{ObjectMeta: named("db"), Spec: corev1.PodSpec{NodeName: "n1", Volumes: []corev1.Volume{{
			Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}},
		}}}}
		w.Create(p)
		w.Create(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "disk"}})
		w.Create(&corev1.PersistentVolumeClaim{ObjectMeta: named("data")})
		want(w, "unbound", "n1/node", "n1/peers", "n1/persistentvolumeclaims/default/data", "n1/pods/default/db")
		w.Change(schema.PersistentVolumeClaims.Key("default", "data"), func(obj schema.Object) {
			obj.(*corev1.PersistentVolumeClaim).Spec.VolumeName = "disk"
		})
		want(w, "bound", "n1/node", "n1/peers", "n1/persistentvolumeclaims/default/data", "n1/persistentvolumes/disk", "n1/pods/default/db")
		scratch := podOn("n2", "job")
		scratch.Spec = corev1.PodSpec{NodeName: "n2", Volumes: []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}}
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
		w.Create(scratch)
		w.Create(&corev1.PersistentVolumeClaim{ObjectMeta: named("job-work")})
		want(w, "ephemeral", "n1/node", "n1/peers", "n1/persistentvolumeclaims/default/data", "n1/persistentvolumes/disk", "n1/pods/default/db",
			"n2/node", "n2/peers", "n2/persistentvolumeclaims/default/job-work", "n2/pods/default/job")
		w.Change(schema.PersistentVolumes.Key("", "disk"), func(obj schema.Object) { obj.SetLabels(map[string]string{"a": "b"}) })
		if got := bound[*corev1.PersistentVolume](w, "n1/persistentvolumes/disk").Labels["a"]; got != "b" {
			t.Errorf("the volume changed and its copy did not: %q", got)
		}
	})
}

// TestTrust writes what agents trust, and leaves the tokens alone.
func TestTrust(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		w.Start(func(ctx context.Context) error {
			return nodeview.Run(ctx, nodeview.Config{Writer: w.Writer, Trust: "pem", Logger: w.Logger})
		})
		w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
		w.Commit(registry.Put(schema.BindingTokensPath("n1", "default", "web", "u"), []byte("x")))
		want(w, "with trust", "n1/node", "n1/peers", "n1/tokens/default/web.u", "n1/trust")
		if got := bound[*corev1.ConfigMap](w, "n1/trust").Data["ca.crt"]; got != "pem" {
			t.Errorf("trust %q", got)
		}
		w.Commit(registry.Put(schema.BindingPrefix("n1")+schema.BindingTrustName, []byte("evil")))
		if got := bound[*corev1.ConfigMap](w, "n1/trust").Data["ca.crt"]; got != "pem" {
			t.Errorf("repaired trust %q", got)
		}
	})
}

func bound[T any](w *controllertest.World, path string) T {
	w.T.Helper()
	w.Revision() // at rest
	kv, err := w.Store.Get(w.T.Context(), schema.BindingsPrefix+path)
	if err != nil {
		w.T.Fatal(err)
	}
	obj, err := schema.Decode(kv.Value)
	if err != nil {
		w.T.Fatal(err)
	}
	out, ok := obj.(T)
	if !ok {
		w.T.Fatalf("%s is a %T", path, obj)
	}
	return out
}
