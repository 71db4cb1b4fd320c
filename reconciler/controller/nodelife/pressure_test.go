package nodelife_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/reconciler/controller/controllertest"
	"github.com/evenkeel/evenkeel/schema"
)

// A node that reports pressure is tainted for as long as it does, beside what
// others taint it with.
func TestPressureTaints(t *testing.T) {
	controllertest.Run(t, func(w *controllertest.World) {
		key := schema.Nodes.Key("", "n1")
		report := func(status corev1.ConditionStatus) {
			w.Report("n1", true, func(n *corev1.Node) {
				for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure} {
					n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: status})
				}
			})
			w.Revision()
		}
		want := func(what string, want ...corev1.Taint) {
			t.Helper()
			if diff := cmp.Diff(want, w.Get(key).(*corev1.Node).Spec.Taints); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		start(w)
		report(corev1.ConditionFalse)
		want("at ease")
		other := corev1.Taint{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule}
		w.Change(key, func(obj schema.Object) { obj.(*corev1.Node).Spec.Taints = []corev1.Taint{other} })
		report(corev1.ConditionTrue)
		memory := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		disk := corev1.Taint{Key: corev1.TaintNodeDiskPressure, Effect: corev1.TaintEffectNoSchedule}
		want("under pressure", other, memory, disk)
		report(corev1.ConditionFalse)
		want("at ease again", other)
	})
}
