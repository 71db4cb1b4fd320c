package nodelife_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/reconciler/controller/nodelife"
	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

func TestJudge(t *testing.T) {
	const after = 5 * time.Second
	now := time.Now()
	well := nodelife.Vital{Present: true, Ready: true}
	ill := nodelife.Vital{Present: true}
	lost := nodelife.Vital{Since: now.Add(-time.Hour), Lost: true}
	gone := func(ago time.Duration) nodelife.Vital { return nodelife.Vital{Since: now.Add(-ago)} }
	coming := func(ago time.Duration) nodelife.Vital {
		return nodelife.Vital{Since: now.Add(-ago), New: true, Coming: true}
	}
	const unreachable, notReady = corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady
	type nodes = map[string]nodelife.Vital
	for name, tc := range map[string]struct {
		nodes nodes
		want  nodelife.Verdict
	}{
		"all well":                         {nodes{"a": well, "b": well}, nodelife.Verdict{}},
		"one just went":                    {nodes{"a": well, "b": gone(0)}, nodelife.Verdict{Taints: map[string]string{"b": unreachable}, Again: after}},
		"one is given up":                  {nodes{"a": well, "b": gone(after)}, nodelife.Verdict{Taints: map[string]string{"b": unreachable}, Lost: []string{"b"}}},
		"one was given up":                 {nodes{"a": well, "b": lost}, nodelife.Verdict{Taints: map[string]string{"b": unreachable}}},
		"the only one":                     {nodes{"a": gone(time.Hour)}, nodelife.Verdict{Held: true}},
		"both of two":                      {nodes{"a": gone(time.Hour), "b": gone(0)}, nodelife.Verdict{Held: true}},
		"two of three":                     {nodes{"a": well, "b": gone(1), "c": gone(1)}, nodelife.Verdict{Held: true}},
		"two of three, one of them before": {nodes{"a": well, "b": gone(time.Second), "c": lost}, nodelife.Verdict{Taints: map[string]string{"b": unreachable, "c": unreachable}, Again: 4 * time.Second}},
		"half of four":                     {nodes{"a": well, "b": well, "c": gone(0), "d": gone(0)}, nodelife.Verdict{Taints: map[string]string{"c": unreachable, "d": unreachable}, Again: after}},
		"it is about to come":              {nodes{"a": well, "b": coming(time.Second)}, nodelife.Verdict{Again: 4 * time.Second}},
		"two are, beside one":              {nodes{"a": well, "b": coming(0), "c": coming(0)}, nodelife.Verdict{Again: after}},
		"only one, and it is":              {nodes{"a": coming(0)}, nodelife.Verdict{Again: after}},
		"it did not come":                  {nodes{"a": well, "b": coming(after)}, nodelife.Verdict{Taints: map[string]string{"b": unreachable}, Lost: []string{"b"}}},
		"one cannot run pods":              {nodes{"a": well, "b": ill}, nodelife.Verdict{Taints: map[string]string{"b": notReady}}},
		"none can run pods":                {nodes{"a": ill, "b": ill}, nodelife.Verdict{}},
		"most cannot run pods":             {nodes{"a": well, "b": ill, "c": ill}, nodelife.Verdict{}},
		"one cannot and one is gone":       {nodes{"a": well, "b": ill, "c": gone(0)}, nodelife.Verdict{Taints: map[string]string{"c": unreachable}, Again: after}},
	} {
		got := nodelife.Judge(tc.nodes, now, after)
		if tc.want.Taints == nil {
			tc.want.Taints = map[string]string{}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// inHealth makes nodes and runs the controller on them.
func inHealth(t *testing.T, nodes int, test func(w *controllertest.World)) {
	controllertest.Run(t, func(w *controllertest.World) {
		for i := range nodes {
			name := fmt.Sprint("n", i)
			w.Report(name, true)
			w.Create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
		start(w)
		w.Revision()
		test(w)
	})
}

func vanish(w *controllertest.World, names ...string) {
	for _, name := range names {
		w.Commit(registry.Delete(schema.NodeLeasePrefix + name))
	}
	w.Revision()
}

// wantTaints compares the taints of all nodes: "n1 unreachable".
func wantTaints(w *controllertest.World, what string, want ...string) {
	w.T.Helper()
	w.Revision()
	nodes, _, err := w.Writer.Registries.List(w.T.Context(), schema.Nodes, "")
	if err != nil {
		w.T.Fatal(err)
	}
	var got []string
	for _, n := range nodes {
		for _, taint := range n.(*corev1.Node).Spec.Taints {
			got = append(got, n.GetName()+" "+strings.TrimPrefix(taint.Key, "node.kubernetes.io/"))
			if taint.Effect == corev1.TaintEffectNoExecute && taint.Key != "team" && taint.TimeAdded == nil {
				w.T.Errorf("%s: %s does not say when it was added", what, taint.Key)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.T.Errorf("%s: taints (-want +got):\n%s", what, diff)
	}
}

func TestGoneIsTainted(t *testing.T) {
	inHealth(t, 3, func(w *controllertest.World) {
		w.Change(schema.Nodes.Key("", "n1"), func(obj schema.Object) {
			obj.(*corev1.Node).Spec.Taints = []corev1.Taint{{Key: "team", Effect: corev1.TaintEffectNoExecute}}
		})
		vanish(w, "n1")
		wantTaints(w, "gone", "n1 team", "n1 unreachable")
		if diff := cmp.Diff([]string{"nodes/n1 NodeNotReady: Node n1 status is now: NodeNotReady"}, w.Events()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		before := w.Revision()
		<-time.After(time.Hour)
		if after := w.Revision(); after != before {
			t.Errorf("something was written: revision %d, was %d", after, before)
		}
		w.Change(schema.Nodes.Key("", "n1"), func(obj schema.Object) { obj.(*corev1.Node).Spec.Taints = nil })
		wantTaints(w, "somebody took it away", "n1 unreachable")
		w.Report("n1", true)
		wantTaints(w, "back")
	})
}

func TestNotReadyIsTainted(t *testing.T) {
	inHealth(t, 3, func(w *controllertest.World) {
		notReady := func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }
		w.Report("n1", true, notReady)
		wantTaints(w, "not ready", "n1 not-ready")
		w.Report("n2", true, notReady)
		wantTaints(w, "most are not ready")
		w.Report("n1", true)
		wantTaints(w, "one is again", "n2 not-ready")
		vanish(w, "n2")
		wantTaints(w, "gone", "n2 unreachable")
		w.Report("n2", true)
		wantTaints(w, "back")
	})
}

// A node that registers takes its lease when it is ready: it is not gone until
// then.
func TestComingIsNotTainted(t *testing.T) {
	inHealth(t, 1, func(w *controllertest.World) {
		w.Report("n1", false)
		wantTaints(w, "registered")
		<-time.After(4 * time.Second)
		w.Report("n1", true)
		wantTaints(w, "there")
		w.Report("n2", false)
		<-time.After(6 * time.Second)
		wantTaints(w, "one that did not come", "n2 unreachable")
	})
}

func TestMostGoneAtOnce(t *testing.T) {
	inHealth(t, 5, func(w *controllertest.World) {
		vanish(w, "n0")
		vanish(w, "n1")
		wantTaints(w, "two of five", "n0 unreachable", "n1 unreachable")
		vanish(w, "n2")
		wantTaints(w, "three of five")
		w.Report("n0", true)
		wantTaints(w, "one is back", "n1 unreachable", "n2 unreachable")
		<-time.After(6 * time.Second)
		vanish(w, "n3")
		wantTaints(w, "one of the three that were left", "n1 unreachable", "n2 unreachable", "n3 unreachable")
		vanish(w, "n4")
		wantTaints(w, "two of three")
	})
}

// The next leader knows which nodes an earlier one had given up, and does not
// take their absence for a fault of its own.
func TestGivenUpBefore(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		for i := range 4 {
			name := fmt.Sprint("n", i)
			w.Report(name, i < 2)
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if i >= 2 {
				now := metav1.Now()
				node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &now}}
			}
			w.Create(node)
		}
		start(w)
		vanish(w, "n1")
		wantTaints(w, "one of the two that were left", "n1 unreachable", "n2 unreachable", "n3 unreachable")
	})
}
