package nodelife

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/evenkeel/evenkeel/schema"
	"github.com/evenkeel/evenkeel/schema/registry"
)

// pressureTaints keep pods from nodes that report a condition (Kubernetes:
// "Taint Nodes by Condition").
var pressureTaints = map[corev1.NodeConditionType]string{
	corev1.NodeMemoryPressure: corev1.TaintNodeMemoryPressure,
	corev1.NodeDiskPressure:   corev1.TaintNodeDiskPressure,
	corev1.NodePIDPressure:    corev1.TaintNodePIDPressure,
}

// taint gives the node the taints of what its agent reports, and takes them
// away when that is over. Other taints are others'.
func (l *life) taint(ctx context.Context, key schema.Key) error {
	node, _ := l.Writer.Mirror.Stored(key).(*corev1.Node)
	status := l.Writer.Mirror.NodeStatus(key.Name)
	if node == nil || status == nil {
		return nil
	}
	taints := taintsFor(node.Spec.Taints, status.Status.Conditions)
	if slices.EqualFunc(taints, node.Spec.Taints, func(a, b corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }) {
		return nil
	}
	changed := node.DeepCopy()
	changed.Spec.Taints = taints
	if _, err := l.Writer.Commit(ctx, registry.Write{Update: changed}); err != nil {
		return fmt.Errorf("taint node %s: %w", key.Name, err)
	}
	return nil
}

// taintsFor are the taints that a node with some conditions should have. Pure.
func taintsFor(have []corev1.Taint, conditions []corev1.NodeCondition) []corev1.Taint {
	want := map[string]bool{}
	for _, c := range conditions {
		if key, known := pressureTaints[c.Type]; known && c.Status == corev1.ConditionTrue {
			want[key] = true
		}
	}
	var out []corev1.Taint
	for _, t := range have {
		ours := t.Effect == corev1.TaintEffectNoSchedule && isPressureTaint(t.Key)
		if !ours || want[t.Key] {
			out = append(out, t)
		}
		if ours {
			delete(want, t.Key)
		}
	}
	for _, key := range []string{corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure} {
		if want[key] {
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	return out
}

func isPressureTaint(key string) bool {
	for _, known := range pressureTaints {
		if known == key {
			return true
		}
	}
	return false
}
