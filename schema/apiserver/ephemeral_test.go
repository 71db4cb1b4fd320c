package apiserver_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	acorev1 "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/evenkeel/evenkeel/schema"
)

const debug = pods + "/box/ephemeralcontainers"

// TestEphemeralContainers adds containers to a pod that is bound: the node's
// copy has them, and nothing else of the pod changes with them.
func TestEphemeralContainers(t *testing.T) {
	w := inMemory(t)
	box := pod("box")
	box.Spec.NodeName = "n1"
	w.must(w.regs.Create(t.Context(), box))
	api := w.kube.CoreV1().Pods("default")
	patch := `{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"n2","containers":[{"name":"main","image":"other"}],
		"ephemeralContainers":[{"name":"one","image":"tool","targetContainerName":"` + box.Spec.Containers[0].Name + `","stdin":true,"tty":true}]}}`
	got, err := api.Patch(t.Context(), "box", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers")
	if err != nil {
		t.Fatal(err)
	}
	want := []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "one", Image: "tool", Stdin: true, TTY: true, ImagePullPolicy: corev1.PullAlways,
			TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		},
		TargetContainerName: box.Spec.Containers[0].Name,
	}}
	if diff := cmp.Diff(want, got.Spec.EphemeralContainers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Generation != 2 || got.Labels["a"] != "" || got.Spec.NodeName != "n1" || len(got.Spec.Containers) != 1 {
		t.Errorf("more has changed: generation %d, labels %v, node %s, %d containers", got.Generation, got.Labels, got.Spec.NodeName, len(got.Spec.Containers))
	}
	kv, err := w.store.Get(t.Context(), schema.BindingPath("n1", schema.KeyOf(got)))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := schema.DecodeObject(kv.Value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, bound.(*corev1.Pod).Spec.EphemeralContainers); diff != "" {
		t.Errorf("the node's copy (-want +got):\n%s", diff)
	}

	apply := acorev1.Pod("box", "default").WithSpec(acorev1.PodSpec().WithEphemeralContainers(acorev1.EphemeralContainer().WithName("two").WithImage("tool:1")))
	got, err = api.Apply(t.Context(), apply, metav1.ApplyOptions{FieldManager: "debugger"})
	if err == nil {
		t.Errorf("added by an apply of the pod itself: %v", got.Spec.EphemeralContainers)
	}
	data, err := json.Marshal(apply)
	if err != nil {
		t.Fatal(err)
	}
	got, err = api.Patch(t.Context(), "box", types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "debugger"}, "ephemeralcontainers")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "debugger" })
	if len(got.Spec.EphemeralContainers) != 2 || i < 0 || got.ManagedFields[i].Subresource != "ephemeralcontainers" {
		t.Errorf("applied: %d, managed by %+v", len(got.Spec.EphemeralContainers), got.ManagedFields)
	}
	list, err := w.kube.Discovery().ServerResourcesForGroupVersion("v1")
	if err != nil {
		t.Fatal(err)
	}
	i = slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "pods/ephemeralcontainers" })
	if i < 0 || list.APIResources[i].Kind != "Pod" || !slices.Equal(list.APIResources[i].Verbs, metav1.Verbs{"get", "patch", "update"}) {
		t.Errorf("not discovered: %+v", list.APIResources)
	}
}

// TestEphemeralErrors asks for what Kubernetes refuses.
func TestEphemeralErrors(t *testing.T) {
	w := inMemory(t)
	static := pod("static")
	static.Annotations = map[string]string{schema.MirrorAnnotation: "x"}
	static.Spec.NodeName = "n1"
	w.must(w.regs.Create(t.Context(), static))
	box := pod("box")
	main := box.Spec.Containers[0].Name
	w.must(w.regs.Create(t.Context(), box))
	w.must(w.regs.Create(t.Context(), pod("bare")))
	add := func(container string) string { return `{"spec":{"ephemeralContainers":[` + container + `]}}` }
	if code, _, body := w.raw("PATCH", debug, stratType, add(`{"name":"one","image":"tool"}`)); code != 200 {
		t.Fatalf("%d: %s", code, body)
	}
	bare, err := json.Marshal(pod("box"))
	if err != nil {
		t.Fatal(err)
	}
	const tool = `"image":"tool"`
	for _, c := range []struct {
		name, method, path, contentType, body string
		code                                  int
		says                                  string
	}{
		{"no such pod", "PATCH", pods + "/none/ephemeralcontainers", stratType, add(`{"name":"x",` + tool + `}`), 404, "not found"},
		{"another version", "PATCH", debug, stratType, `{"metadata":{"resourceVersion":"1"}}`, 409, "the object has been modified"},
		{"change", "PATCH", debug, stratType, add(`{"name":"one","image":"other"}`), 422, `existing ephemeral containers "one" may not be changed`},
		{"take away", "PUT", debug, jsonType, string(bare), 422, `existing ephemeral containers "one" may not be removed`},
		{"no such target", "PATCH", debug, stratType, add(`{"name":"x",` + tool + `,"targetContainerName":"none"}`), 422, "targetContainerName: Not found"},
		{"ephemeral target", "PATCH", debug, stratType, add(`{"name":"x",` + tool + `,"targetContainerName":"one"}`), 422, "targetContainerName: Not found"},
		{"a name that is taken", "PATCH", debug, stratType, add(`{"name":"` + main + `",` + tool + `}`), 422, "Duplicate value"},
		{"a probe", "PATCH", debug, stratType, add(`{"name":"x",` + tool + `,"livenessProbe":{"exec":{"command":["a"]}}}`), 422, "livenessProbe: Forbidden"},
		{"resources", "PATCH", debug, stratType, add(`{"name":"x",` + tool + `,"resources":{"limits":{"cpu":"1"}}}`), 422, "resources: Forbidden"},
		{"part of a volume", "PATCH", debug, stratType, add(`{"name":"x",` + tool + `,"volumeMounts":[{"name":"v","mountPath":"/v","subPath":"a"}]}`), 422, "subPath: Forbidden"},
		{"static pod", "PATCH", pods + "/static/ephemeralcontainers", stratType, add(`{"name":"x",` + tool + `}`), 422, "static pods do not support ephemeral containers"},
		{"no pod", "PUT", debug, jsonType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"box","namespace":"default"}}`, 400, ""},
		{"through the pod", "PATCH", pods + "/bare", stratType, add(`{"name":"x",` + tool + `}`), 422, "spec: Forbidden: pod updates may not change fields"},
		{"with the pod", "POST", pods, jsonType, `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"a",` + tool + `}],"ephemeralContainers":[{"name":"x",` + tool + `}]}}`, 422, "spec.ephemeralContainers: Forbidden: cannot be set on create"},
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
