package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/evenkeel/evenkeel/schema"
)

// samples are a smallest object of every kind.
var samples = map[string]string{
	"namespaces":             `{}`,
	"nodes":                  `{}`,
	"configmaps":             `{data: {a: b}}`,
	"secrets":                `{stringData: {a: b}}`,
	"services":               `{spec: {selector: {app: a}, ports: [{port: 80}]}}`,
	"endpoints":              `{subsets: [{addresses: [{ip: 10.1.2.3}], ports: [{port: 80}]}]}`,
	"endpointslices":         `{addressType: IPv4, endpoints: [{addresses: [10.1.2.3]}], ports: [{port: 80}]}`,
	"pods":                   `{spec: {containers: [{name: c, image: "example.org/c:1"}]}}`,
	"replicationcontrollers": `{spec: {replicas: 1, selector: {app: a}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: "example.org/c:1"}]}}}}`,
	"events":                 `{involvedObject: {kind: Pod, namespace: default, name: p}, reason: Tested, type: Normal, message: m}`,
	"serviceaccounts":        `{}`,
	"roles":                  `{rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`,
	"rolebindings":           `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{kind: ServiceAccount, name: a, namespace: default}]}`,
	"clusterroles":           `{rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`,
	"clusterrolebindings":    `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: a, namespace: default}]}`,
	"leases":                 `{spec: {holderIdentity: a, leaseDurationSeconds: 10}}`,
	"persistentvolumes":      `{spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/v}}}`,
	"persistentvolumeclaims": `{spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`,
	"storageclasses":         `{provisioner: kubernetes.io/no-provisioner}`,
}

func sample(t *testing.T, kind *schema.Kind, name string) *unstructured.Unstructured {
	t.Helper()
	text, ok := samples[kind.Resource]
	if !ok {
		t.Fatalf("no sample of %s: add one", kind.Resource)
	}
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatal(err)
	}
	obj.SetGroupVersionKind(kind.GVK)
	obj.SetName(name)
	obj.SetLabels(map[string]string{"test": "kinds"})
	if kind.Namespaced {
		obj.SetNamespace("default")
	}
	return obj
}

func (w *world) client(kind *schema.Kind) dynamic.ResourceInterface {
	client := w.dyn.Resource(kind.GVK.GroupVersion().WithResource(kind.Resource))
	if kind.Namespaced {
		return client.Namespace("default")
	}
	return client
}

// TestEveryKind takes an object of every kind through every verb.
func TestEveryKind(t *testing.T) {
	for name, w := range map[string]*world{"memory": inMemory(t), "etcd": inEtcd(t)} {
		for _, kind := range schema.Kinds {
			t.Run(name+"/"+kind.Resource, func(t *testing.T) { everyVerb(t, w.client(kind), kind) })
		}
	}
}

func everyVerb(t *testing.T, client dynamic.ResourceInterface, kind *schema.Kind) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	list, err := client.List(ctx, metav1.ListOptions{LabelSelector: "test=kinds"})
	if err != nil || len(list.Items) != 0 {
		t.Fatalf("list: %v, %v", list, err)
	}
	watching, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), LabelSelector: "test=kinds"})
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	defer watching.Stop()

	created, err := client.Create(ctx, sample(t, kind, "a"), metav1.CreateOptions{FieldManager: "maker"})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	if created.GetUID() == "" || created.GetResourceVersion() == "" || len(created.GetManagedFields()) == 0 {
		t.Errorf("metadata of what was created: %v", created.Object["metadata"])
	}
	if _, err := client.Create(ctx, sample(t, kind, "a"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create twice: %v", err)
	}
	created.SetAnnotations(map[string]string{"updated": "true"})
	if _, err := client.Update(ctx, created, metav1.UpdateOptions{}); err != nil {
		t.Errorf("update: %v", err)
	}
	if _, err := client.Update(ctx, created, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update an old version: %v", err)
	}
	patches := map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/annotations/json","value":"true"}]`,
		types.MergePatchType:          `{"metadata":{"annotations":{"merge":"true"}}}`,
		types.StrategicMergePatchType: `{"metadata":{"annotations":{"strategic":"true"}}}`,
	}
	for patch, body := range patches {
		if _, err := client.Patch(ctx, "a", patch, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Errorf("patch %s: %v", patch, err)
		}
	}
	applied := sample(t, kind, "a")
	applied.SetAnnotations(map[string]string{"applied": "true"})
	got, err := client.Apply(ctx, "a", applied, metav1.ApplyOptions{FieldManager: "applier", Force: true})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	for _, key := range []string{"updated", "json", "merge", "strategic", "applied"} {
		if got.GetAnnotations()[key] != "true" {
			t.Errorf("annotation %s is missing: %v", key, got.GetAnnotations())
		}
	}
	same, err := client.Apply(ctx, "a", applied, metav1.ApplyOptions{FieldManager: "applier", Force: true})
	if err != nil || same.GetResourceVersion() != got.GetResourceVersion() {
		t.Errorf("applied again: error %v (-first +again):\n%s", err, cmp.Diff(got, same))
	}
	if _, err := client.Apply(ctx, "b", sample(t, kind, "b"), metav1.ApplyOptions{FieldManager: "applier"}); err != nil {
		t.Errorf("apply what is not there: %v", err)
	}
	dry, err := client.Create(ctx, sample(t, kind, "dry"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || dry.GetUID() == "" {
		t.Errorf("create in a dry run: %v, %v", dry, err)
	}
	if _, err := client.Get(ctx, "dry", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get what was only dry: %v", err)
	}
	if err := client.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("other")}); !apierrors.IsConflict(err) {
		t.Errorf("delete another: %v", err)
	}
	background := metav1.DeletePropagationBackground
	if err := client.Delete(ctx, "a", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if kind != schema.Namespaces {
		if _, err := client.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("get what is gone: %v", err)
		}
		err := client.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: "test=kinds"})
		if err != nil {
			t.Errorf("delete all: %v", err)
		}
	}
	seen := events(t, watching, kind != schema.Namespaces)
	if seen["a"][0] != watch.Added || len(seen["a"]) != 7 || seen["b"][0] != watch.Added {
		t.Errorf("events: %v", seen)
	}
}

// events reads a watch until both objects are gone, or a namespace is going.
func events(t *testing.T, w watch.Interface, gone bool) map[string][]watch.EventType {
	t.Helper()
	out := map[string][]watch.EventType{}
	deleted := 0
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("the watch ended; so far %v", out)
			}
			obj := e.Object.(*unstructured.Unstructured)
			out[obj.GetName()] = append(out[obj.GetName()], e.Type)
			if e.Type == watch.Deleted || !gone && obj.GetDeletionTimestamp() != nil {
				deleted++
			}
			if deleted == 2 || deleted == 1 && !gone {
				return out
			}
		case <-timeout.C:
			t.Fatalf("timed out; so far %v", out)
		}
	}
}

// TestEveryStatus writes the status of every kind that has one, and nothing
// else with it.
func TestEveryStatus(t *testing.T) {
	w := inMemory(t)
	statuses := map[string]string{
		"pods":                   `{"phase":"Failed","reason":"Tested"}`,
		"replicationcontrollers": `{"replicas":3,"observedGeneration":1}`,
		"services":               `{"loadBalancer":{"ingress":[{"ip":"10.9.9.9"}]}}`,
		"nodes":                  `{"phase":"Running"}`,
		"namespaces":             `{"phase":"Active"}`,
		"persistentvolumes":      `{"phase":"Available"}`,
		"persistentvolumeclaims": `{"phase":"Pending"}`,
	}
	for resource, status := range statuses {
		kind, ok := schema.KindOfResource(resource)
		if !ok {
			continue
		}
		t.Run(resource, func(t *testing.T) {
			client := w.client(kind)
			created, err := client.Create(t.Context(), sample(t, kind, "s"), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			patch := fmt.Sprintf(`{"metadata":{"labels":{"sneaked":"in"}},"status":%s}`, status)
			got, err := client.Patch(t.Context(), "s", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
			if err != nil {
				t.Fatal(err)
			}
			if _, sneaked := got.GetLabels()["sneaked"]; sneaked || got.GetGeneration() != created.GetGeneration() {
				t.Errorf("more than the status was written: %v", got.Object["metadata"])
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(status), &want); err != nil {
				t.Fatal(err)
			}
			have := got.Object["status"].(map[string]any)
			for key := range want {
				if fmt.Sprint(have[key]) != fmt.Sprint(want[key]) && resource != "nodes" {
					t.Errorf("status.%s is %v, not %v", key, have[key], want[key])
				}
			}
		})
	}
}
