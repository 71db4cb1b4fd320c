package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestUnsupportedFields are refused by the API as in manifests. What an object
// has, from before its field was refused, stands in nobody's way.
func TestUnsupportedFields(t *testing.T) {
	w := inMemory(t)
	wantRefused := func(err error, want string) {
		t.Helper()
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want 422 with %q", err, want)
		}
	}
	balancer := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	_, err := w.kube.CoreV1().Services("default").Create(t.Context(), balancer, metav1.CreateOptions{})
	wantRefused(err, "spec.type: Forbidden: valid Kubernetes, not supported here yet: LoadBalancer; supported: ClusterIP, NodePort, ExternalName")

	class := "fast"
	choosy := pod("choosy")
	choosy.Spec.RuntimeClassName = &class
	api := w.kube.CoreV1().Pods("default")
	_, err = api.Create(t.Context(), choosy, metav1.CreateOptions{})
	wantRefused(err, "spec.runtimeClassName: Forbidden: valid Kubernetes, not supported here yet")
	w.must(w.regs.Create(t.Context(), choosy))
	if _, err := api.Patch(t.Context(), "choosy", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Errorf("a change of something else: %v", err)
	}
	odd := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "odd", Namespace: "default"},
		Spec: corev1.ReplicationControllerSpec{Selector: map[string]string{"a": "b"}, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "one", Image: "i"}, {Name: "two", Image: "i", VolumeDevices: []corev1.VolumeDevice{{Name: "v", DevicePath: "/d"}}}}},
		}},
	}
	odd.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	w.must(w.regs.Create(t.Context(), odd))
	if _, err := w.kube.CoreV1().ReplicationControllers("default").Patch(t.Context(), "odd", types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/template/spec/containers/0"}]`), metav1.PatchOptions{}); err != nil {
		t.Errorf("another item of the list is removed: %v", err)
	}
	if _, err := api.Create(t.Context(), pod("plain"), metav1.CreateOptions{}); err != nil {
		t.Errorf("a plain pod: %v", err)
	}
	_, err = api.Patch(t.Context(), "plain", types.MergePatchType, []byte(`{"spec":{"runtimeClassName":"fast"}}`), metav1.PatchOptions{})
	wantRefused(err, "not supported here yet")
}
