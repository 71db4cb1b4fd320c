package apiserver_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/schema"
)

func requirements(request, limit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(limit)},
	}
}

// TestResize gives the containers of a bound pod other resources: the node's
// copy has them, and nothing else of the pod changes with them.
func TestResize(t *testing.T) {
	w := inMemory(t)
	box := pod("box")
	box.Spec.NodeName = "n1"
	box.Spec.Containers[0].Resources = requirements("100m", "200m")
	w.must(w.regs.Create(t.Context(), box))
	api := w.kube.CoreV1().Pods("default")
	name := box.Spec.Containers[0].Name
	patch := `{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"n2","containers":[{"name":"` + name + `","image":"other","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}}]}}`
	got, err := api.Patch(t.Context(), "box", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "resizer"}, "resize")
	if err != nil {
		t.Fatal(err)
	}
	want := requirements("150m", "300m")
	if diff := cmp.Diff(want, got.Spec.Containers[0].Resources); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Generation != 2 || got.Labels["a"] != "" || got.Spec.NodeName != "n1" || got.Spec.Containers[0].Image == "other" {
		t.Errorf("more has changed: generation %d, labels %v, node %s, image %s", got.Generation, got.Labels, got.Spec.NodeName, got.Spec.Containers[0].Image)
	}
	kv, err := w.store.Get(t.Context(), schema.BindingPath("n1", schema.KeyOf(got)))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := schema.DecodeObject(kv.Value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bound.(*corev1.Pod).Spec.Containers[0].Resources); diff != "" {
		t.Errorf("the node's copy (-want +got):\n%s", diff)
	}
	applied := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"box"},"spec":{"containers":[{"name":"` + name + `","image":"x","resources":{"limits":{"cpu":"400m"}}}]}}`
	got, err = api.Patch(t.Context(), "box", types.ApplyPatchType, []byte(applied), metav1.PatchOptions{FieldManager: "resizer", Force: new(true)}, "resize")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "resizer" })
	if limit := got.Spec.Containers[0].Resources.Limits.Cpu().String(); limit != "400m" || i < 0 || got.ManagedFields[i].Subresource != "resize" ||
		strings.Contains(string(got.ManagedFields[i].FieldsV1.Raw), "image") {
		t.Errorf("applied: %s, managed by %+v", limit, got.ManagedFields)
	}
	list, err := w.kube.Discovery().ServerResourcesForGroupVersion("v1")
	if err != nil {
		t.Fatal(err)
	}
	i = slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "pods/resize" })
	if i < 0 || list.APIResources[i].Kind != "Pod" || !slices.Equal(list.APIResources[i].Verbs, metav1.Verbs{"get", "patch", "update"}) {
		t.Errorf("not discovered: %+v", list.APIResources)
	}
}

// TestResizeErrors asks for what Kubernetes refuses.
func TestResizeErrors(t *testing.T) {
	w := inMemory(t)
	static := pod("static")
	static.Annotations = map[string]string{schema.MirrorAnnotation: "x"}
	static.Spec.NodeName = "n1"
	static.Spec.Containers[0].Resources = requirements("100m", "200m")
	w.must(w.regs.Create(t.Context(), static))
	box := pod("box")
	box.Spec.Containers[0].Resources = requirements("100m", "200m")
	w.must(w.regs.Create(t.Context(), box))
	w.must(w.regs.Create(t.Context(), pod("bare")))
	const at = pods + "/box/resize"
	to := func(resources string) string {
		return `{"spec":{"containers":[{"name":"` + box.Spec.Containers[0].Name + `","resources":` + resources + `}]}}`
	}
	for _, c := range []struct {
		name, method, path, contentType, body string
		code                                  int
		says                                  string
	}{
		{"no such pod", "PATCH", pods + "/none/resize", stratType, to(`{"requests":{"cpu":"1"}}`), 404, "not found"},
		{"another version", "PATCH", at, stratType, `{"metadata":{"resourceVersion":"1"}}`, 409, "the object has been modified"},
		{"request over limit", "PATCH", at, stratType, to(`{"requests":{"cpu":"1"}}`), 422, "must be less than or equal to cpu limit of 200m"},
		{"take away", "PATCH", at, stratType, to(`{"limits":{"cpu":null}}`), 422, "resource limits cannot be removed"},
		{"another class", "PATCH", at, stratType, to(`{"requests":{"cpu":"200m","memory":"1Mi"},"limits":{"memory":"1Mi"}}`), 422, "Pod QOS Class may not change as a result of resizing"},
		{"of none", "PATCH", pods + "/bare/resize", stratType, to(`{"requests":{"cpu":"100m"}}`), 422, "Pod QOS Class may not change as a result of resizing"},
		{"of disk", "PATCH", at, stratType, to(`{"requests":{"ephemeral-storage":"1Gi"}}`), 422, "only cpu and memory resources are mutable"},
		{"one more container", "PATCH", at, stratType, `{"spec":{"containers":[{"name":"new","image":"x"}]}}`, 422, "containers may not be added or removed on resize"},
		{"static pod", "PATCH", pods + "/static/resize", stratType, to(`{"requests":{"cpu":"150m"}}`), 422, "static pods cannot be resized"},
		{"no pod", "PUT", at, jsonType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"box","namespace":"default"}}`, 400, ""},
		{"through the pod", "PATCH", pods + "/box", stratType, to(`{"requests":{"cpu":"150m"}}`), 422, "spec: Forbidden: pod updates may not change fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			code, _, body := w.raw(c.method, c.path, c.contentType, c.body)
			if code != c.code || !strings.Contains(string(body), strings.ReplaceAll(c.says, `"`, `\"`)) {
				t.Errorf("%d, want %d with %q: %s", code, c.code, c.says, body)
			}
		})
	}
}
