package effects

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/reconciler"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

// pod is a manifest of one that asks for so many thousandths of a core.
func pod(name, image string, cpu int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: %q, resources: {requests: {cpu: %dm}}}]}\n", name, image, cpu)
}

func controller(name string, replicas int, image string, cpu int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ReplicationController
metadata: {name: %s}
spec:
  replicas: %d
  template:
    metadata: {labels: {app: %s}}
    spec: {containers: [{name: c, image: %q, resources: {requests: {cpu: %dm}}}]}
`, name, replicas, name, image, cpu)
}

func set(t *testing.T, docs ...string) *manifests.Set {
	t.Helper()
	text := strings.Join(docs, "---\n")
	sets, findings := manifests.NewLoader().Load(t.Context(), manifests.Snapshot{
		Source: "src", Files: []manifests.File{{Path: "a.yaml", Hash: text, Read: func() ([]byte, error) { return []byte(text), nil }}},
	})
	if err := findings.Err(); err != nil {
		t.Fatal(err)
	}
	return sets[0]
}

const note = "ReplicationController default/web: the template changes, the pods that run (2) do not: a replication controller makes only new pods from it; delete the old ones to replace them"

func TestEffects(t *testing.T) {
	for name, test := range map[string]struct {
		before, after []string
		nodes         string
		want          reconciler.Effects
	}{
		"nothing": {},
		"new": {
			after: []string{pod("p", "i:1", 100), controller("web", 3, "i:1", 100)},
			want:  reconciler.Effects{New: 4},
		},
		"scaled": {
			before: []string{controller("up", 1, "i:1", 0), controller("down", 4, "i:1", 0)},
			after:  []string{controller("up", 3, "i:1", 0), controller("down", 1, "i:1", 0)},
			want:   reconciler.Effects{New: 2, Deleted: 3},
		},
		"template": {
			before: []string{controller("web", 2, "i:1", 0)}, after: []string{controller("web", 3, "i:2", 0)},
			want: reconciler.Effects{New: 1, Notes: []string{note}},
		},
		"deleted": {
			before: []string{pod("p", "i:1", 0), controller("web", 2, "i:1", 0)},
			want:   reconciler.Effects{Deleted: 3},
		},
		"a node that is no longer declared": {
			before: []string{"apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {disk: ssd}}\n"},
			want:   reconciler.Effects{Notes: []string{"Node n1: it stays, as it is a machine; what was declared of it is taken back"}},
		},
		"another image restarts, anything else replaces": {
			before: []string{pod("a", "i:1", 0), pod("b", "i:1", 0)}, after: []string{pod("a", "i:2", 0), pod("b", "i:1", 100)},
			want: reconciler.Effects{Restarted: 1, Replaced: 1},
		},
		"does not fit": {
			before: []string{controller("old", 2, "i:1", 1000)},
			after:  []string{controller("old", 2, "i:1", 1000), controller("web", 3, "i:1", 1000), pod("big", "i:1", 3000)},
			nodes:  "2x2cpu,8Gi",
			want: reconciler.Effects{New: 4, Scheduled: true, Unfit: []reconciler.Unfit{
				{Object: "Pod default/big", Pods: 1, Reason: "0/2 nodes are available: 2 Insufficient cpu."},
				{Object: "ReplicationController default/web", Pods: 1, Reason: "0/2 nodes are available: 2 Insufficient cpu."},
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := reconciler.DeclaredBase(set(t, test.before...))
			plan, err := base.Plan(validation.Rules{}, set(t, test.after...))
			if err != nil {
				t.Fatal(err)
			}
			var nodes []*corev1.Node
			if test.nodes != "" {
				if nodes, err = ParseNodes(test.nodes); err != nil {
					t.Fatal(err)
				}
			}
			got := Compute(plan, base, nodes)
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestRunningPodsKeepTheirRoom replaces a pod on a node where somebody else
// took the room that it needs now.
func TestRunningPodsKeepTheirRoom(t *testing.T) {
	base := reconciler.DeclaredBase(set(t, pod("p", "i:1", 500)))
	small, err := ParseNodes("2x1cpu,1Gi")
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range small {
		base.Objects[schema.Nodes.Key("", node.Name)] = node
	}
	old := base.Objects[schema.Pods.Key("default", "p")].DeepCopyObject().(*corev1.Pod)
	old.Spec.NodeName = small[0].Name
	base.Objects[schema.Pods.Key("default", "p")] = old
	other := old.DeepCopy()
	other.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: "other", UID: types.UID("other")}
	base.Objects[schema.Pods.Key("default", "other")] = other
	plan, err := base.Plan(validation.Rules{}, set(t, pod("p", "i:1", 800)))
	if err != nil {
		t.Fatal(err)
	}
	want := &reconciler.Effects{Replaced: 1, Moved: 1, Scheduled: true}
	if diff := cmp.Diff(want, Compute(plan, base, nil)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	plan.Effects = want
	if got := plan.Summary(); got != "Plan: 0 to add, 1 to change, 0 to delete, 0 unchanged · pods: 1 replaced, 1 moved" {
		t.Error(got)
	}
}

// TestAffinity: a plan of pods with affinity is made, and says which of them fit
// nowhere by it; one that is declared before the pod that it needs fits.
func TestAffinity(t *testing.T) {
	const affinity = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 3
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - topologyKey: kubernetes.io/hostname
              labelSelector: {matchLabels: {app: web}}
      containers: [{name: a, image: "i:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          namespaceSelector: {matchLabels: {team: shop}}
          labelSelector: {matchLabels: {app: db}}
  containers: [{name: a, image: "i:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec:
  containers: [{name: a, image: "i:1"}]
`
	base := reconciler.DeclaredBase(set(t))
	plan, err := base.Plan(validation.Rules{}, set(t, affinity))
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := ParseNodes("2x4cpu,8Gi")
	if err != nil {
		t.Fatal(err)
	}
	want := &reconciler.Effects{New: 5, Scheduled: true, Unfit: []reconciler.Unfit{
		{Object: "ReplicationController default/web", Pods: 1, Reason: "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."},
	}}
	if diff := cmp.Diff(want, Compute(plan, base, nodes)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseNodes(t *testing.T) {
	nodes, err := ParseNodes("3x4cpu,8Gi")
	if err != nil || len(nodes) != 3 || nodes[2].Status.Allocatable.Cpu().Value() != 4 || nodes[0].Status.Allocatable.Memory().Value() != 8<<30 {
		t.Errorf("%v, %v", nodes, err)
	}
	for _, bad := range []string{"", "3", "3x", "x4cpu,8Gi", "3x4cpu", "3xfour,8Gi", "3x4cpu,much", "99999x1cpu,1Gi"} {
		if _, err := ParseNodes(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestTaintedNode gives a node a taint that ends the pods on it.
func TestTaintedNode(t *testing.T) {
	node := func(spec string) string {
		return "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {" + spec + "}\n"
	}
	before, after := node("unschedulable: false"), node("taints: [{key: team, effect: NoExecute}]")
	base := reconciler.DeclaredBase(set(t, before))
	nodes, err := ParseNodes("1x1cpu,1Gi")
	if err != nil {
		t.Fatal(err)
	}
	base.Objects[schema.Nodes.Key("", nodes[0].Name)] = nodes[0]
	yes, seconds := true, int64(60)
	for name, change := range map[string]func(*corev1.Pod){
		"owned": func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicationController", Name: "web", UID: "web", Controller: &yes}}
		},
		"alone": func(*corev1.Pod) {},
		"later": func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: "Exists", TolerationSeconds: &seconds}}
		},
		"always": func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "team", Operator: "Exists"}} },
		"mirror": func(p *corev1.Pod) { p.Annotations = map[string]string{schema.MirrorAnnotation: "x"} },
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{NodeName: "n1"}}
		change(pod)
		base.Objects[schema.Pods.Key("default", name)] = pod
	}
	plan, err := base.Plan(validation.Rules{}, set(t, after))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&reconciler.Effects{Deleted: 2, Moved: 1, Scheduled: true}, Compute(plan, base, nil)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
