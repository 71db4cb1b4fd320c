package status

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWhyNodeNotReady(t *testing.T) {
	ready := func(status corev1.ConditionStatus, message string) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: status, Message: message}}
	}
	reported := []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	for name, tc := range map[string]struct {
		status corev1.NodeStatus
		want   string
	}{
		"ready":           {corev1.NodeStatus{Addresses: reported, Conditions: ready(corev1.ConditionTrue, "node agent runs pods")}, ""},
		"not ready":       {corev1.NodeStatus{Addresses: reported, Conditions: ready(corev1.ConditionFalse, "containerd is away")}, "containerd is away"},
		"it says not why": {corev1.NodeStatus{Addresses: reported, Conditions: ready(corev1.ConditionFalse, "")}, "is not ready"},
		"gone":            {corev1.NodeStatus{Addresses: reported, Conditions: ready(corev1.ConditionUnknown, "stopped posting its lease")}, "stopped posting its lease"},
		"only declared":   {corev1.NodeStatus{Conditions: ready(corev1.ConditionUnknown, "stopped posting its lease")}, "node agent has not reported"},
		"nothing":         {corev1.NodeStatus{}, "node agent has not reported"},
	} {
		if got := whyNodeNotReady(&corev1.Node{Status: tc.status}); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
