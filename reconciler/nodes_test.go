package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/manifests"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/validation"
)

func taintsOf(text string) []corev1.Taint {
	var out []corev1.Taint
	for _, word := range strings.Fields(text) {
		key, effect, _ := strings.Cut(word, ":")
		key, value, _ := strings.Cut(key, "=")
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out
}

func TestMergeTaints(t *testing.T) {
	for name, tc := range map[string]struct{ before, declared, live, want string }{
		"nothing":                 {"", "", "", ""},
		"others'":                 {"", "", "a:NoSchedule", "a:NoSchedule"},
		"one more":                {"", "b:NoSchedule", "a:NoSchedule", "a:NoSchedule b:NoSchedule"},
		"it is there":             {"b:NoSchedule", "b:NoSchedule", "b:NoSchedule a:NoSchedule", "b:NoSchedule a:NoSchedule"},
		"somebody took it away":   {"b:NoSchedule", "b:NoSchedule", "a:NoSchedule", "a:NoSchedule b:NoSchedule"},
		"somebody set its value":  {"b=1:NoSchedule", "b=1:NoSchedule", "b=2:NoSchedule a:NoSchedule", "b=1:NoSchedule a:NoSchedule"},
		"no longer declared":      {"b:NoSchedule", "", "a:NoSchedule b:NoSchedule", "a:NoSchedule"},
		"the only one, no longer": {"b:NoSchedule", "", "b:NoSchedule", ""},
		"another effect":          {"b:NoSchedule", "b:NoExecute", "b:NoSchedule b:PreferNoSchedule", "b:PreferNoSchedule b:NoExecute"},
	} {
		got := mergeTaints(taintsOf(tc.before), taintsOf(tc.declared), taintsOf(tc.live))
		if diff := cmp.Diff(taintsOf(tc.want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestOverruledTaints: what others give to a node is theirs.
func TestOverruledTaints(t *testing.T) {
	owned := Owned{Entry: Entry{Declared: []byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"spec":{"taints":[{"effect":"NoSchedule","key":"team","value":"x"}]}}`)}}
	for taints, want := range map[string][]string{
		"team=x:NoSchedule":                   nil,
		"mine:NoSchedule team=x:NoSchedule":   nil,
		"mine:NoSchedule team=y:NoSchedule":   {"spec.taints[key=team].value"},
		"team=x:NoSchedule team=x:NoExecute":  nil,
		"mine:NoSchedule another=:NoSchedule": {"spec.taints[key=team]"},
	} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Taints: taintsOf(taints)}}
		got, err := Overruled(owned, node, validation.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", taints, diff)
		}
	}
}

func nodeYAML(rest string) string {
	return "apiVersion: v1\nkind: Node\nmetadata: {name: n1" + rest
}

// TestNodeInGit has a node that an agent registered, of which git says a part.
func TestNodeInGit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestbed(t)
		key := schema.Nodes.Key("", "n1")
		now := metav1.Now().Rfc3339Copy()
		registered := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"kubernetes.io/hostname": "n1", "disk": "hdd"}},
			Spec: corev1.NodeSpec{
				PodCIDR: "10.0.0.0/24", PodCIDRs: []string{"10.0.0.0/24"},
				Taints: []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &now}},
			},
		}
		if _, err := b.regs.Create(t.Context(), registered); err != nil {
			t.Fatal(err)
		}
		src := &fakeSource{name: "src"}
		set := func(files map[string]string) {
			files["a.yaml"] = configMap("a", "1")
			src.set(files)
			synctest.Wait()
		}
		want := func(what, labels, taints string, cordoned bool) {
			t.Helper()
			synctest.Wait()
			obj, err := b.regs.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			node := obj.(*corev1.Node)
			var words []string
			for _, taint := range node.Spec.Taints {
				words = append(words, strings.TrimPrefix(fmt.Sprintf("%s=%s:%s", taint.Key, taint.Value, taint.Effect), "node.kubernetes.io/"))
			}
			got := fmt.Sprint(node.Labels["disk"], " ", node.Labels["zone"], "; ", strings.Join(words, " "), "; ", node.Spec.Unschedulable)
			expect(t, what, fmt.Sprintf("%s; %s; %v", labels, taints, cordoned), got)
			if node.Spec.PodCIDR != "10.0.0.0/24" || node.Labels["kubernetes.io/hostname"] != "n1" {
				t.Errorf("%s: the control plane's own changed: %+v", what, node)
			}
			expect(t, what+": head", Applied, b.head("src").Result)
		}
		change := func(f func(*corev1.Node)) {
			t.Helper()
			_, err := b.regs.Mutate(t.Context(), key, func(obj schema.Object) error { f(obj.(*corev1.Node)); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		set(map[string]string{"n1.yaml": nodeYAML(", labels: {disk: ssd, zone: a}}\nspec: {unschedulable: true, taints: [{key: team, value: x, effect: NoSchedule}]}\n")})
		stop := b.run(src)
		defer stop()
		want("declared", "ssd a", "unreachable=:NoExecute team=x:NoSchedule", true)
		change(func(n *corev1.Node) {
			n.Spec.Unschedulable = false
			n.Labels["disk"] = "tape"
			n.Spec.Taints = []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoSchedule}, {Key: "team", Value: "y", Effect: corev1.TaintEffectNoSchedule}}
		})
		want("changed by hand", "ssd a", "mine=:NoSchedule team=x:NoSchedule", true)
		set(map[string]string{"n1.yaml": nodeYAML(", labels: {disk: ssd}}\n")})
		want("less is declared", "ssd ", "mine=:NoSchedule", false)
		change(func(n *corev1.Node) { n.Spec.Unschedulable = true })
		want("cordoned by hand", "ssd ", "mine=:NoSchedule", true)
		set(map[string]string{})
		want("no longer declared", " ", "mine=:NoSchedule", true)
		obj, err := b.regs.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(obj.GetAnnotations()) != 0 {
			t.Errorf("annotations are left: %v", obj.GetAnnotations())
		}
		kvs, _, err := b.store.List(t.Context(), entryPath("src", key), 0)
		if err != nil || len(kvs) != 0 {
			t.Errorf("the inventory has it still: %v %v", kvs, err)
		}
	})
}

// A plan says that a node is changed, not deleted, whether it is made against
// a cluster or against what was declared.
func TestPlanWithoutNode(t *testing.T) {
	declared := func(text string) *manifests.Set {
		src := &fakeSource{name: "src", files: map[string]string{"n1.yaml": text}}
		snapshot, err := src.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sets, findings := manifests.NewLoader().Load(t.Context(), snapshot)
		if err := findings.Err(); err != nil {
			t.Fatal(err)
		}
		return sets[0]
	}
	before := declared(nodeYAML("}\nspec: {taints: [{key: team, effect: NoSchedule}]}\n"))
	base := DeclaredBase(before)
	plan, err := base.Plan(validation.Rules{}, declared(""))
	if err != nil {
		t.Fatal(err)
	}
	type summary struct {
		Summary, Field, Old, Place string
	}
	got := summary{Summary: plan.Summary()}
	if len(plan.Changes) == 1 && len(plan.Changes[0].Fields) == 1 {
		f := plan.Changes[0].Fields[0]
		got.Field, got.Old, got.Place = f.Path, f.Old, f.Place.String()
	}
	want := summary{"Plan: 0 to add, 1 to change, 0 to delete, 0 unchanged", "spec.taints", `[{"effect":"NoSchedule","key":"team"}]`, "n1.yaml:1:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	live := base.Objects[schema.Nodes.Key("", "n1")].(*corev1.Node).DeepCopy()
	live.Labels = map[string]string{"kubernetes.io/hostname": "n1"}
	live.Annotations = map[string]string{schema.SourceAnnotation: "somewhere"}
	base.Objects[schema.Nodes.Key("", "n1")] = live
	other, err := base.Plan(validation.Rules{}, declared(""))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "hash", plan.Hash(), other.Hash())
}
