package reconciler

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

const webBefore = `apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:1", env: [{name: A, value: "1"}, {name: B, value: "1"}]}
      - {name: side, image: "side:1"}
`

const webAfter = `apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: side
        image: "side:2"
      - name: web
        image: "web:1"
        env:
        - {name: B, value: "2"}
        - {name: A, value: "1"}
  replicas: 3
`

func setOf(t *testing.T, name, text string) *manifests.Set {
	t.Helper()
	src := &fakeSource{name: "src", files: map[string]string{name: text}}
	snapshot, _ := src.Snapshot(context.Background())
	sets, findings := manifests.NewLoader().Load(t.Context(), snapshot)
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	return sets[0]
}

func rendered(t *testing.T, base *Base, set *manifests.Set) string {
	t.Helper()
	plan, err := base.Plan(validation.Rules{}, set)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := plan.Render(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFieldsHaveTheirPlaces(t *testing.T) {
	want := `~ update  ReplicationController shop/web  (after.yaml:1)
    spec.replicas: 1 → 3  (after.yaml:16)
    spec.template.spec.containers[name=side].image: "side:1" → "side:2"  (after.yaml:10)
    spec.template.spec.containers[name=web].env[name=B].value: "1" → "2"  (after.yaml:14)

Plan: 0 to add, 1 to change, 0 to delete, 0 unchanged
`
	got := rendered(t, DeclaredBase(setOf(t, "before.yaml", webBefore)), setOf(t, "after.yaml", webAfter))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDriftIsShownApart changes an object both in git and behind its back.
func TestDriftIsShownApart(t *testing.T) {
	base := DeclaredBase(setOf(t, "web.yaml", webBefore))
	key := schema.ReplicationControllers.Key("shop", "web")
	live := base.Objects[key].DeepCopyObject().(*corev1.ReplicationController)
	live.Spec.Template.Spec.Containers[1].Image = "side:edited"
	base.Objects[key] = live
	drift := `Changed behind git's back:
~ update  ReplicationController shop/web  (web.yaml:1)
    spec.template.spec.containers[name=side].image: "side:edited" → "side:1"  (web.yaml:11)

Plan: 0 to add, 1 to change, 0 to delete, 0 unchanged
`
	if diff := cmp.Diff(drift, rendered(t, base, setOf(t, "web.yaml", webBefore))); diff != "" {
		t.Errorf("drift alone, -want +got:\n%s", diff)
	}
	both := `~ update  ReplicationController shop/web  (web.yaml:1)
    spec.replicas: 1 → 5  (web.yaml:5)

` + drift
	after := strings.Replace(webBefore, "replicas: 1", "replicas: 5", 1)
	if diff := cmp.Diff(both, rendered(t, base, setOf(t, "web.yaml", after))); diff != "" {
		t.Errorf("both, -want +got:\n%s", diff)
	}
}

// TestEphemeralContainersStay: what kubectl debug added to a pod is no drift,
// and an update leaves it.
func TestEphemeralContainersStay(t *testing.T) {
	const pod = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec:
  containers: [{name: main, image: "main:1"}]
`
	base := DeclaredBase(setOf(t, "pod.yaml", pod))
	key := schema.Pods.Key("shop", "a")
	live := base.Objects[key].DeepCopyObject().(*corev1.Pod)
	live.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "eye", Image: "tools:1", ImagePullPolicy: corev1.PullIfNotPresent,
		TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}}}
	base.Objects[key] = live
	if diff := cmp.Diff("Plan: 0 to add, 0 to change, 0 to delete, 1 unchanged\n", rendered(t, base, setOf(t, "pod.yaml", pod))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want := `~ update  Pod shop/a  (pod.yaml:1)
    spec.containers[name=main].image: "main:1" → "main:2"  (pod.yaml:5)

Plan: 0 to add, 1 to change, 0 to delete, 0 unchanged
`
	if diff := cmp.Diff(want, rendered(t, base, setOf(t, "pod.yaml", strings.ReplaceAll(pod, "main:1", "main:2")))); diff != "" {
		t.Errorf("another image, -want +got:\n%s", diff)
	}
}
